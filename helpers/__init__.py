"""The modules behind the notebooks: declare, run, record, view, publish (README, "Layout")."""
