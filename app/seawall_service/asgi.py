"""ASGI entry point of the API."""

from seawall_service.logging import configure_logging
from seawall_service.main import create_app
from seawall_service.startup_gate import load_settings

settings = load_settings("api")
configure_logging(settings.log_level, debug=settings.debug)
app = create_app(settings)
