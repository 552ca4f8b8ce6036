"""Reading and writing: the only place of the package that knows file formats."""
