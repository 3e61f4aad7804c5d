"""`python -m seawall_service.users.first_user`: makes the first user, once.

The last line on stdout is {"changed": true|false}; logs go to stderr; the password goes nowhere.
"""

import asyncio
import json
import re
import sys

import psycopg
from psycopg.rows import dict_row

from seawall_service.db.pool import connection_arguments
from seawall_service.db.roles import judge_role
from seawall_service.errors import first_line
from seawall_service.logging import configure_logging
from seawall_service.security.passwords import Passwords
from seawall_service.security.principal import SYSTEM_PRINCIPAL_ID
from seawall_service.settings import FirstUserSettings, Settings
from seawall_service.startup_gate import Refusal, StartupRefused, exit_refused, load_settings, parse
from seawall_service.users.commands import CreateUser
from seawall_service.users.schemas import MAX_PASSWORD_LENGTH, MIN_PASSWORD_LENGTH, USERNAME_PATTERN
from seawall_service.users.service import create_user_unless_known, find_credentials

EXIT_FAILED = 1


def checked(first: FirstUserSettings) -> tuple[str, str]:
    refusals = []
    username = first.name.lower()
    if not re.fullmatch(USERNAME_PATTERN, username):
        refusals.append(Refusal("FIRST_USER_NAME", f"{first.name!r} is no user name", f"It must match {USERNAME_PATTERN}"))
    password = first.password.get_secret_value() if first.password else ""
    if not MIN_PASSWORD_LENGTH <= len(password) <= MAX_PASSWORD_LENGTH:
        refusals.append(
            Refusal(
                "FIRST_USER_PASSWORD_FILE",
                "holds no password of a usable length",
                f"Put {MIN_PASSWORD_LENGTH} to {MAX_PASSWORD_LENGTH} characters into it",
            )
        )
    if refusals:
        raise StartupRefused(refusals)
    return username, password


async def make_first_user(settings: Settings, username: str, password: str) -> bool:
    connection = await psycopg.AsyncConnection.connect(**connection_arguments(settings), row_factory=dict_row)
    async with connection:
        await judge_role(connection, settings)
        if await find_credentials(connection, username):
            return False
        command = CreateUser(username, Passwords(settings.password_hash_concurrency).hash(password))
        async with connection.transaction():
            return await create_user_unless_known(connection, command, SYSTEM_PRINCIPAL_ID) is not None


def main() -> int:
    try:
        settings = load_settings("command")
        configure_logging(settings.log_level, debug=settings.debug, stream=sys.stderr)
        username, password = checked(parse(FirstUserSettings))
        changed = asyncio.run(make_first_user(settings, username, password))
    except StartupRefused as refused:
        exit_refused(refused)
    except psycopg.errors.UndefinedTable:
        sys.stderr.write("The schema is missing: run python -m seawall_service.migrate first.\n")
        return EXIT_FAILED
    except psycopg.OperationalError as error:
        sys.stderr.write(f"No connection with DATABASE_URL: {first_line(error)}\n")
        return EXIT_FAILED
    sys.stdout.write(json.dumps({"changed": changed}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
