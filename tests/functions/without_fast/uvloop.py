raise ModuleNotFoundError("No module named 'uvloop'", name="uvloop")
