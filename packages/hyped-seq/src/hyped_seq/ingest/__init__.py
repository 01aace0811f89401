"""From files to AnnData: pools of wf-single-cell, 10x or h5ad counts with hashtags, and finished h5ad releases."""
