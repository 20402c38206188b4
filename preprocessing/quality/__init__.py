"""Pages by which a person accepts or rejects a recording before anything is trained on it.

Steps gather the evidence (`gather_evidence`), pages are drawn from it later (`page`).
"""
