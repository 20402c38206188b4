"""One kit for all pages: figures, their style, templates, slices. Knows no scores."""
