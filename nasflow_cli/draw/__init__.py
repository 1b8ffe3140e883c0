"""Pictures as SVG text: a network that a person can read. No torch, no files, no scripts in what it draws."""
