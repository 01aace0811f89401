"""Geneformer: rank value encoding, encoder, in-silico perturbation, embeddings, and a small model pretrained here.

Theodoris et al. 2023, doi:10.1038/s41586-023-06139-9 (series V1); Chen et al. 2024, doi:10.1101/2024.08.16.608180 (V2).
"""
