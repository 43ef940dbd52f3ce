"""HTML pages that need nothing else: markup, charts as SVG, and the frame that holds them. Pure functions from values to text."""
