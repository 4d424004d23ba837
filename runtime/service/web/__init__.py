"""The service's live page, API, metrics and health checks: FastAPI on uvicorn, in its own thread."""
