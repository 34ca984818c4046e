"""What semigpt[serve] brings; tests of the server are skipped where it cannot be imported."""

import fastapi
import httpx
import prometheus_client
import uvicorn

__all__ = ["fastapi", "httpx", "prometheus_client", "uvicorn"]
