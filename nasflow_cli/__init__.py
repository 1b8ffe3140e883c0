"""nasflow: neural architecture search from one YAML file. Start reading at `search.py`."""

__version__ = "0.1.0"
