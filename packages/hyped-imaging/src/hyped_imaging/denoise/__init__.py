"""Classical denoisers of single planes: total variation, and non-local means after a variance-stabilising
map."""
