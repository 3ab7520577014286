"""The ways into a function, one a module. Each builds the event that AWS documents and takes the reply as AWS does."""
