"""From files to AnnData: pools of wf-single-cell, 10x or h5ad with hashtags, and finished h5ad releases."""
