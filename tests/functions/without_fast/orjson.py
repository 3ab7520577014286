raise ModuleNotFoundError("No module named 'orjson'", name="orjson")
