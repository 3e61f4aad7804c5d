"""ASGI entry point of the auth gateway."""

from seawall_service.logging import configure_logging
from seawall_service.main import create_auth_app
from seawall_service.startup_gate import load_settings

settings = load_settings("auth")
configure_logging(settings.log_level, debug=settings.debug)
app = create_auth_app(settings)
