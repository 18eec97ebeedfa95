"""Scripts that keep the repository in order: environment, notebooks, figures and their index."""
