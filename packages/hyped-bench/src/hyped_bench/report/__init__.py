"""The report: one offline page of a dataset's benchmark, its tables as CSV, its figures as SVG, a summary.

`build` puts it together; `sections` hold what is on the page, each registered like a stranger's would be.
"""
