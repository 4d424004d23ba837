"""The live page of the service, its API, metrics and health: FastAPI on uvicorn, in a thread of its own."""
