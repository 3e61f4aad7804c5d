"""Every bad value is refused before anything is changed, in words that name the setting and the cure: one table, one run."""

from __future__ import annotations

import os
import re
import socket
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from check_run import ROOT, Verdict, check_hosts
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from seawall_host_probe import parse_os_release

Settings = dict[str, Any]
Parts = dict[tuple[str, str], Any]
# One sentence refuses whatever is wrong in one of these.
REFUSED_AS_A_WHOLE = {
    "api_database_pool",
    "api_rate_limits",
    "api_runtime",
    "api_tracing",
    "api_websockets",
    "edge_headers",
    "postgres_settings",
}
# The test's own variables, which the values below may use.
FILES = "{{ test_files }}"
WEAK_BITS = 1024


DEFAULTS: Settings = {}
for defaults_file in ROOT.glob("roles/*/defaults/main.yml"):
    DEFAULTS |= yaml.safe_load(defaults_file.read_text(encoding="utf-8")) or {}


CHECKS = ROOT / "roles/preflight/vars/main"
CHECKS_FILES = [file for file in CHECKS.glob("*.yml") if file.stem != "main"]
SETTINGS_CHECKS: list[dict[str, str]] = [
    check for file in CHECKS_FILES for check in yaml.safe_load(file.read_text(encoding="utf-8"))[f"preflight_{file.stem}_checks"]
]


# The machine that tests is nobody's host to harden.
NO_BASELINE: Settings = {"host_baseline_parts": dict.fromkeys(DEFAULTS["host_baseline_parts"], False)}


def changed(setting: str, **keys: object) -> Settings:
    """A dict setting as it is by default, apart from some keys."""
    return {setting: DEFAULTS[setting] | keys}


def baseline(setting: str, **keys: object) -> Settings:
    """A changed setting of the host's baseline, which counts only where a part of it is on."""
    return changed(setting, **keys) | ON


# Any difference from the defaults, where most parts are on.
ON = changed("host_baseline_parts", auditd=True)


def without(setting: str, key: str) -> Settings:
    return {setting: {name: value for name, value in DEFAULTS[setting].items() if name != key}}


def written(text: str) -> Settings:
    """As YAML reads it, which is not always what the one who wrote it meant."""
    return dict(yaml.safe_load(text))


def listening(**keys: object) -> Settings:
    usual = {"bind_address": "127.0.0.1", "http_port": "{{ test_ports[0] }}", "https_port": "{{ test_ports[1] }}"}
    return {"edge_listen": usual | keys}


def provided(certificate: str, key: str, domain: str = "localhost") -> Settings:
    files = {"certificate": f"{FILES}/{certificate}" if certificate else "", "private_key": f"{FILES}/{key}" if key else ""}
    return {"tls_mode": "provided", "tls_provided": files, "seawall_domain": domain}


def acme(domain: str = "api.example.com", schedule: Settings | None = None, **keys: object) -> Settings:
    settings = changed("tls_acme", **{"agree_to_terms": True, **keys}) | changed("tls_acme_schedule", **(schedule or {}))
    return settings | {"tls_mode": "acme", "seawall_domain": domain}


GOOD: dict[str, Settings] = {
    "nothing but a name": {},
    "every default said aloud, and a long name": {
        "seawall_domain": f"{'.'.join(['a' * 63] * 3)}.{'b' * 49}.example.com",
        **{
            name: value
            for name, value in DEFAULTS.items()
            if not name.startswith("preflight_") and name not in {"edge_listen", *NO_BASELINE}
        },
    },
    "a certificate from a public authority": acme(email="first.last+acme@example.co.uk", profile="shortlived"),
    "a certificate from an authority of one's own": acme(
        "localhost",
        {"on_calendar": "hourly", "randomized_delay_seconds": 0},
        directory_url="https://192.0.2.1:14000/dir",
        ca_bundle=f"{FILES}/good.pem",
    ),
    "other values": {
        # As -e name=value gives them.
        "api_require_authenticated_principal": "no",
        "edge_http3": "true",
        "images_with_tests": "false",
        "backup_timeout_seconds": "60",
        "backup_schedule": {
            "enabled": True,
            "on_calendar": "Mon..Fri *-*-1/2 03:17:30 America/Port-au-Prince",
            "randomized_delay_seconds": 0,
        },
        "backup_retention": {"keep_daily": 1, "keep_weekly": 0, "keep_monthly": 0},
        "seawall_environment": "development",
        "edge_trusted_proxies": {"networks": ["10.0.0.0/8", "2001:db8::/32"], "header": "CF-Connecting-IP"},
        "api_cors_origins": ["https://www.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443"],
        "postgres_settings": {"work_mem": "8MB", "jit": False, "random_page_cost": 1.1},
        # Not ours.
        "vault_secrets_supplied": 1,
        "my_company": "x",
        "postgresql_version": 17,
        **listening(bind_address="127.0.0.2"),
        **provided("good.pem", "good.key"),
        **changed("edge_headers", console_policy="default-src 'self' https://cdn.example.com; img-src *"),
    },
}

# What is set, and the words that one message must hold: the setting's name, then the cure. The cases of a
# part are refused by one task, which names all that is wrong at once.
BAD: dict[str, dict[str, tuple[Settings, list[str]]]] = {
    "names": {
        "letters swapped": ({"seawall_domian": "a.example"}, ["seawall_domian", "did you mean seawall_domain?"]),
        "letter missing": ({"tls_mod": "provided"}, ["tls_mod ", "did you mean tls_mode?"]),
        "role misspelt": ({"pogstres_settings": {}}, ["pogstres_settings", "did you mean postgres_settings?"]),
        "unknown of a role": ({"postgres_color": "red"}, ["postgres_color", "remove it", "docs/configuration.md"]),
        "unknown global": ({"seawall_flavour": "sweet"}, ["seawall_flavour", "remove it", "docs/configuration.md"]),
        "key at the top": ({"edge_https_port": 443}, ["edge_https_port", "docs/configuration.md"]),
    },
    "what is no setting": {
        "variable of a role": (
            {"host_baseline_bridges": ["docker0"]},
            ["host_baseline_bridges is not a setting", "Remove it", "docs/configuration.md"],
        ),
    },
    "types": {
        "key of another dict": (
            changed("edge_listen", keepalive_seconds=3),
            ["edge_listen.keepalive_seconds", "remove it, or use one of"],
        ),
        "key misspelt": (changed("edge_listen", https_prot=1), ["edge_listen.https_prot", "did you mean https_port?"]),
        "key of a dict without defaults": (changed("backup_resources", disk="1g"), ["backup_resources.disk", "memory, cpus"]),
        "key that is no text": (
            {"api_release": DEFAULTS["api_release"] | {1: 2}},
            ["api_release.1", "use one of ready_timeout_seconds"],
        ),
        "half a dict": (
            {"edge_listen": {"http_port": 80}},
            ["edge_listen lacks bind_address, https_port", "give all of its keys"],
        ),
        "empty dict": ({"api_runtime": {}}, ["api_runtime lacks workers", "give all of its keys"]),
        "one key missing": (
            without("postgres_resources", "shm_size"),
            ["postgres_resources lacks shm_size", "give all of its keys"],
        ),
        "headers in part": (without("edge_headers", "referrer_policy"), ["edge_headers lacks referrer_policy", "give all"]),
        "port is text": (listening(http_port="eighty"), ["edge_listen.http_port is text", "whole number"]),
        "port in quotes": (changed("edge_listen", https_port="443"), ["edge_listen.https_port is text", "without quotes"]),
        "port is a fraction": (listening(http_port=80.5), ["edge_listen.http_port is the number 80.5", "whole number"]),
        "port is a boolean": (listening(http_port=True), ["edge_listen.http_port is the boolean true", "whole number"]),
        "number is empty": (changed("api_runtime", workers=None), ["api_runtime.workers is empty", "whole number"]),
        "number is huge": (changed("edge_limits", api_burst=10**12), ["edge_limits.api_burst", "at most 2147483647"]),
        "top number is text": ({"migrate_timeout_seconds": "soon"}, ["migrate_timeout_seconds is text", "whole number"]),
        "top number is a dict": ({"backup_timeout_seconds": {}}, ["backup_timeout_seconds is a dict", "whole number"]),
        "boolean is a word": ({"images_with_tests": "perhaps"}, ["images_with_tests is text", "true or false"]),
        "boolean in quotes": (changed("edge_hsts", preload="no"), ["edge_hsts.preload is text", "without quotes"]),
        "boolean is a number": ({"migrate_backup_first": 3}, ["migrate_backup_first is the number 3", "true or false"]),
        "share is text": (changed("edge_resources", cpus="half"), ["edge_resources.cpus is text", "0.5"]),
        "share is infinite": (changed("edge_resources", **written("cpus: .inf")), ["edge_resources.cpus", "0.5"]),
        "share is no number": (changed("cache_resources", **written("cpus: .nan")), ["cache_resources.cpus", "0.5"]),
        "list is text": ({"tls_extra_domains": "www.example.com"}, ["tls_extra_domains is text", "write a list"]),
        "unknown exporter": (changed("api_tracing", exporter="jaeger"), ["api_tracing.exporter", "otlp"]),
        "list is a dict": ({"api_cors_origins": {"a": 1}}, ["api_cors_origins is a dict", "write a list"]),
        "element is a number": ({"tls_extra_domains": ["a.example", 7]}, ["tls_extra_domains[1] is the number 7", "in quotes"]),
        "networks are text": (
            changed("edge_trusted_proxies", networks="10.0.0.0/8"),
            ["edge_trusted_proxies.networks is text", "write a list"],
        ),
        "dict is text": ({"edge_limits": "none"}, ["edge_limits is text", "write keys"]),
        "dict is a list": ({"postgres_settings": ["fsync"]}, ["postgres_settings is a list", "write keys"]),
        "dict is empty": (written("api_database_pool:"), ["api_database_pool is empty", "write keys"]),
        "secrets are text": ({"secrets_supplied": "abcdefgh"}, ["secrets_supplied is text", "write keys"]),
        "path is a number": ({"images_archive": 5}, ["images_archive is the number 5", "write a path"]),
        "log level": (
            changed("api_runtime", log_level="loud"),
            ["api_runtime.log_level", "'loud'", "debug, info, warning, error"],
        ),
        "eviction": (changed("cache_limits", eviction="lru"), ["cache_limits.eviction", "'lru'", "allkeys-lru"]),
        "prefix": (changed("edge_limits", ipv6_prefix=63), ["edge_limits.ipv6_prefix", "'63'", "32, 40, 48, 56, 64, 128"]),
        "profile": ({"edge_tls_profile": "old"}, ["edge_tls_profile", "'old'", "intermediate, modern"]),
        "mode": ({"tls_mode": "certbot"}, ["tls_mode", "'certbot'", "self_signed, provided, acme"]),
        "source": ({"images_source": "registry"}, ["images_source", "'registry'", "build, archive"]),
        "opener policy": (
            changed("edge_headers", cross_origin_opener_policy="same_origin"),
            ["edge_headers.cross_origin_opener_policy", "unsafe-none"],
        ),
        "embedder policy": (
            changed("edge_headers", cross_origin_embedder_policy=""),
            ["edge_headers.cross_origin_embedder_policy", "credentialless"],
        ),
        "resource policy": (
            changed("edge_headers", cross_origin_resource_policy="any"),
            ["edge_headers.cross_origin_resource_policy", "cross-origin"],
        ),
        "referrer policy": (changed("edge_headers", referrer_policy="none"), ["edge_headers.referrer_policy", "no-referrer"]),
    },
    "one by one: Ansible": {
        "domain of nowhere": ({"seawall_domain": "{{ somewhere_else }}"}, ["somewhere_else", "undefined"]),
        "domain is empty in YAML": (written("seawall_domain:"), ["seawall_domain"]),
        "environment": ({"seawall_environment": "prod"}, ["seawall_environment", "production", "staging", "development"]),
        "host without Python": (
            {"ansible_python_interpreter": "/nowhere/python3"},
            ["has no /nowhere/python3", "apt-get install --yes python3"],
        ),
        "host without sudo": (
            {"ansible_become": True, "ansible_become_user": "nobody", "ansible_become_exe": "/nowhere/sudo"},
            ["Nothing can be done as root on", "/nowhere/sudo: not found", "Install sudo there", "add -K"],
        ),
        "minimum is text": (
            {"preflight_minimums": {"memory_mib": "much", "free_gib": 1}},
            ["memory_mib", "preflight_minimums", "int"],
        ),
    },
    "words of YAML": {
        "domain is a template": ({"seawall_domain": "{{ 7 * 7 }}"}, ["seawall_domain is the number 49"]),
        "octal name": (
            changed("auth_first_user", **written("name: 0755")),
            ["auth_first_user.name is the number 493", "in quotes"],
        ),
        "a name called no": (
            changed("auth_first_user", **written("name: no")),
            ["auth_first_user.name is the boolean false", "in quotes"],
        ),
        "minutes and seconds": (
            changed("postgres_resources", **written("memory: 12:30")),
            ["postgres_resources.memory is the number 750", "in quotes"],
        ),
        "size without unit": (
            changed("api_resources", **written("memory: 384")),
            ["api_resources.memory is the number 384", "in quotes"],
        ),
        "date": (written("images_epoch: 2026-07-01"), ["images_epoch is the date 2026-07-01", "in quotes"]),
        "exponent": (written("seawall_project: 1.0e+3"), ["seawall_project is the number 1000", "in quotes"]),
        "domain is a number": (written("seawall_domain: 2026"), ["seawall_domain is the number 2026", "in quotes"]),
        "no size": (changed("cache_resources", memory="lots"), ["cache_resources.memory is 'lots'", "for example 512m"]),
        "empty size": (changed("backup_resources", memory=""), ["backup_resources.memory is ''", "for example 512m"]),
        "fraction": (changed("postgres_resources", memory="1.5g"), ["postgres_resources.memory is '1.5g'", "whole number"]),
        "bytes of the kernel": (
            changed("edge_resources", tmpfs_size="64mb"),
            ["edge_resources.tmpfs_size is '64mb'", "k, m or g"],
        ),
        "shared memory": (changed("postgres_resources", shm_size="0"), ["postgres_resources.shm_size is '0'", "k, m or g"]),
        "size with a line break": (changed("api_resources", memory="384m\n"), ["api_resources.memory", "k, m or g"]),
        "no limit": (changed("api_resources", cpus=0), ["api_resources.cpus is 0", "0.01 or more"]),
        "less than nothing": (changed("postgres_resources", cpus=-1.0), ["postgres_resources.cpus is -1.0", "0.01 or more"]),
    },
    "global": {
        "version is no list": (written("preflight_distributions: {debian: '12'}"), ["preflight_distributions", "a list"]),
        "versions are numbers": (written("preflight_distributions: {ubuntu: [24.04]}"), ["preflight_distributions", "in quotes"]),
        "domain with spaces": (
            {"seawall_domain": "not a name"},
            ["seawall_domain is 'not a name'", "seawall_domain: api.example.com"],
        ),
        "no domain": ({"seawall_domain": ""}, ["seawall_domain is ''", "seawall_domain: api.example.com"]),
        "domain is an address": ({"seawall_domain": "203.0.113.10"}, ["seawall_domain is '203.0.113.10'", "api.example.com"]),
        "domain with a scheme": ({"seawall_domain": "https://a.example"}, ["seawall_domain is 'https://", "api.example.com"]),
        "domain in capitals": ({"seawall_domain": "API.example.com"}, ["seawall_domain is 'API.", "api.example.com"]),
        "domain with a line break": ({"seawall_domain": "a.example\n"}, ["seawall_domain", "no host name"]),
        "domain with a directive": ({"seawall_domain": "a.example; return 200"}, ["seawall_domain", "no host name"]),
        "domain too long": ({"seawall_domain": f"{'a.' * 130}example"}, ["seawall_domain", "no host name"]),
        "domain is a wildcard": ({"seawall_domain": "*.example.com"}, ["seawall_domain", "no host name"]),
        "whole disk": ({"seawall_root": "/"}, ["seawall_root is '/'", "seawall_root: /opt/seawall"]),
        "relative root": ({"seawall_root": "opt/seawall"}, ["seawall_root is 'opt/seawall'", "/opt/seawall"]),
        "root with a way up": ({"seawall_root": "/opt/../etc"}, ["seawall_root", "/opt/seawall"]),
        "root with a space": ({"seawall_root": "/opt/sea wall"}, ["seawall_root", "without spaces"]),
        "root with a variable": ({"seawall_root": "/opt/$HOME"}, ["seawall_root", "/opt/seawall"]),
        "root with a line break": ({"seawall_root": "/opt/seawall\n"}, ["seawall_root", "/opt/seawall"]),
        "root too long": ({"seawall_root": "/opt/" + "a" * 80}, ["seawall_root", "at most 77 characters"]),
        "root of the system": ({"seawall_root": "/etc/ssl"}, ["seawall_root is '/etc/ssl'", "seawall_root: /opt/seawall"]),
        "root that a restart empties": ({"seawall_root": "/run/seawall"}, ["seawall_root is '/run/seawall'", "/opt/seawall"]),
        **{
            f"root below {place}": (
                {"seawall_root": f"/{place}/sw"},
                [f"seawall_root is '/{place}/sw'", "seawall_root: /opt/seawall"],
            )
            for place in ("tmp", "var/tmp", "dev/shm")
        },
        "root is somebody's home": ({"seawall_root": "/home/admin"}, ["seawall_root is '/home/admin'", "/opt/seawall"]),
        "project with spaces": (
            {"seawall_project": "Has Spaces"},
            ["seawall_project is 'Has Spaces'", "seawall_project: seawall"],
        ),
        "project with a quote": ({"seawall_project": "a'b"}, ["seawall_project", "small letters"]),
        "project with a line break": ({"seawall_project": "seawall\n"}, ["seawall_project", "small letters"]),
        "project too long": ({"seawall_project": "a" * 64}, ["seawall_project", "at most 63"]),
    },
    "api": {
        "no authentication": ({"api_require_authenticated_principal": False}, ["api_require_authenticated_principal", "Remove"]),
        "no authentication, with -e": (
            {"api_require_authenticated_principal": "no"},
            ["api_require_authenticated_principal", "Remove"],
        ),
        "graceful too short": (
            changed("api_runtime", graceful_timeout_seconds=24),
            ["api_runtime", "graceful_timeout_seconds", "Raise"],
        ),
        "grace period too short": (changed("api_runtime", stop_grace_period_seconds=34), ["stop_grace_period_seconds", "Raise"]),
        "no time for requests": (
            changed("api_runtime", request_timeout_seconds=0),
            ["api_runtime.request_timeout_seconds", "at least 1"],
        ),
        "service hangs up first": (changed("api_runtime", keepalive_seconds=3), ["api_runtime.keepalive_seconds", "Raise"]),
        "no workers": (changed("api_runtime", workers=0), ["api_runtime.workers", "at least 1"]),
        "no connections": (changed("api_database_pool", size=0), ["api_database_pool.size", "at least 1"]),
        "negative overflow": (changed("api_database_pool", max_overflow=0), ["api_database_pool.max_overflow", "at least 1"]),
        "too many connections": (changed("api_database_pool", size=40), ["360 database connections", "postgres_connections.max"]),
        "service too small": (changed("api_resources", memory="191m"), ["api_resources.memory (191m)", "192m or more"]),
        "no time to start": (
            changed("api_release", ready_timeout_seconds=14),
            ["api_release.ready_timeout_seconds", "15 or more"],
        ),
        "every origin": ({"api_cors_origins": ["*"]}, ["api_cors_origins holds *", "https://www.example.com"]),
        "origin with a slash": ({"api_cors_origins": ["https://a.example/"]}, ["api_cors_origins", "a slash at the end"]),
        "origin with a setting": (
            {"api_cors_origins": ["https://a.example\nAPI_WORKERS=9"]},
            ["api_cors_origins", "as a browser sends it"],
        ),
        "origin with a variable": (
            {"api_cors_origins": ["https://${API_WORKERS}"]},
            ["api_cors_origins", "as a browser sends it"],
        ),
        "no requests": (changed("api_rate_limits", requests=0), ["api_rate_limits", "enabled to false"]),
        "a limit that limits nothing": (changed("api_rate_limits", burst=1001), ["api_rate_limits", "burst to at most 1000"]),
        "cache of no time": (changed("api_cache", ttl_seconds=0), ["api_cache.ttl_seconds (0)", "enabled to false"]),
        "no sockets": (changed("api_websockets", per_user=0), ["api_websockets", "limits_enabled to false"]),
        "messages above the transport's limit": (
            changed("api_websockets", message_bytes=65536),
            ["api_websockets", "message_bytes at most 65535"],
        ),
        "more sockets than the edge has connections": (
            changed("api_websockets", total=2000),
            ["api_websockets.total (2000)", "Raise edge_limits.worker_connections"],
        ),
        "share above all": (changed("api_audit", sample_rate=1.5), ["api_audit.sample_rate (1.5)", "from 0"]),
        "collector of nowhere": (changed("api_tracing", exporter="otlp"), ["api_tracing.endpoint is ''", "exporter to none"]),
        "collector without a scheme": (
            changed("api_tracing", endpoint="collector:4318"),
            ["api_tracing.endpoint is 'collector:4318'", "http://collector:4318"],
        ),
    },
    "auth": {
        "user with a space": (changed("auth_first_user", name="a b"), ["auth_first_user.name is 'a b'", "1 to 63 letters"]),
        "user with a line break": (changed("auth_first_user", name="admin\n"), ["auth_first_user.name", "1 to 63 letters"]),
        "user is a command": (changed("auth_first_user", name="$(id)"), ["auth_first_user.name", "1 to 63 letters"]),
        "nobody": (changed("auth_first_user", name=""), ["auth_first_user.name is ''", "1 to 63 letters"]),
        "password left nowhere": (changed("auth_first_user", show_in=""), ["auth_first_user.show_in is ''", "~/first-sign-in"]),
        "password left somewhere": (changed("auth_first_user", show_in="sign-in"), ["auth_first_user.show_in", "absolute path"]),
        "password left in a directory": (changed("auth_first_user", show_in=FILES), ["auth_first_user.show_in", "a file"]),
    },
    "one by one: jobs": {
        "backup too small": (changed("backup_resources", memory="255m"), ["backup_resources.memory is 255m", "at least 256m"]),
        "backup too short": ({"backup_timeout_seconds": 59}, ["backup_timeout_seconds is 59", "at least 60 seconds"]),
        "migration without end": ({"migrate_timeout_seconds": 0}, ["migrate_timeout_seconds (0)", "10 or more"]),
    },
    "schedule": {
        "no time": (
            changed("backup_schedule", on_calendar="at night"),
            ["backup_schedule.on_calendar is 'at night'", "03:17:00"],
        ),
        "time with a line break": (
            changed("backup_schedule", on_calendar="daily\n"),
            ["backup_schedule.on_calendar", "03:17:00"],
        ),
        "time with a specifier": (
            changed("backup_schedule", on_calendar="%h 03:17"),
            ["backup_schedule.on_calendar", "03:17:00"],
        ),
        "every minute": (changed("backup_schedule", on_calendar="minutely"), ["backup_schedule.on_calendar", "03:17:00"]),
        "put off into the past": (
            changed("backup_schedule", randomized_delay_seconds=-1),
            ["backup_schedule.randomized_delay_seconds is -1", "0 to 86400"],
        ),
        "put off for too long": (
            changed("backup_schedule", randomized_delay_seconds=86401),
            ["backup_schedule.randomized_delay_seconds is 86401", "0 to 86400"],
        ),
        "no day kept": (changed("backup_retention", keep_daily=0), ["backup_retention.keep_daily is 0", "keep_daily: 7"]),
        "fewer weeks than none": (changed("backup_retention", keep_weekly=-1), ["backup_retention", "-1 weeks", "0, for none"]),
    },
    "more jobs": {
        "fewer months than none": (
            changed("backup_retention", keep_monthly=-1),
            ["backup_retention", "-1 months", "0, for none"],
        ),
    },
    "engine": {
        "engine open to all": (
            changed("docker_engine_daemon", hosts=["tcp://0.0.0.0:2375"]),
            ["docker_engine_daemon.hosts", "Remove it"],
        ),
        "engine with other users": (
            changed("docker_engine_daemon", **{"userns-remap": "default"}),
            ["docker_engine_daemon.userns-remap", "Remove it"],
        ),
        "no time for the engine": (
            changed("docker_engine_start", timeout_seconds=0),
            ["docker_engine_start.timeout_seconds (0)", "5 or more"],
        ),
    },
    "stack": {
        "no Compose file": ({"stack_compose_file": "/absent.yml"}, ["stack_compose_file is '/absent.yml'", "Remove it"]),
        "no environment": ({"stack_environment_template": "."}, ["stack_environment_template is '.'", "Remove it"]),
    },
    "one by one: images": {
        "no archive": ({"images_source": "archive"}, ["images_archive (empty)", "docker save"]),
        "relative archive": (
            {"images_source": "archive", "images_archive": "i.tar"},
            ["images_archive (i.tar)", "absolute path"],
        ),
        "nothing to build from": (
            changed("images_contexts", cache="/absent"),
            ["/absent has no Dockerfile", "images_contexts.cache"],
        ),
        "relative pip.conf": (
            changed("images_build_secrets", pip_config="pip.conf"),
            ["images_build_secrets.pip_config", "absolute path"],
        ),
    },
    "cache": {
        "cache too small": (changed("cache_resources", memory="31m"), ["cache_resources.memory (31m)", "32m or more"]),
        "share too large": (changed("cache_limits", memory_percent=91), ["cache_limits.memory_percent (91)", "25 to 90"]),
        "share too small": (changed("cache_limits", memory_percent=24), ["cache_limits.memory_percent (24)", "25 to 90"]),
        "no clients": (changed("cache_limits", clients=9), ["cache_limits.clients (9)", "10 or more"]),
    },
    "edge": {
        "edge gives up first": (
            changed("edge_timeouts", upstream_read_seconds=20),
            ["edge_timeouts.upstream_read_seconds (20)", "Raise"],
        ),
        "no rate": (changed("edge_limits", auth_per_minute=0), ["edge_limits", "at least 1"]),
        "no time": (changed("edge_timeouts", shutdown_seconds=-1), ["edge_timeouts", "at least 1"]),
        "too few connections": (
            changed("edge_limits", worker_connections=63) | changed("api_websockets", limits_enabled=False),
            ["edge_limits.worker_connections (63)", "64 or more"],
        ),
        "negative age": (changed("edge_hsts", max_age_seconds=-1), ["edge_hsts.max_age_seconds (-1)", "0 or more"]),
        "preload of one name": (
            changed("edge_hsts", preload=True, include_subdomains=False),
            ["edge_hsts.preload", "include_subdomains"],
        ),
        "preload of a day": (changed("edge_hsts", preload=True, max_age_seconds=86400), ["edge_hsts.preload", "31536000"]),
        "no keep-alive": (changed("edge_upstream", keepalive_time_seconds=0), ["edge_upstream", "at least 1"]),
        "policy with a quote": (
            changed("edge_headers", permissions_policy='usb="x"'),
            ["edge_headers.permissions_policy", "Write the policy without"],
        ),
        "policy with a variable": (
            changed("edge_headers", console_policy="script-src $host"),
            ["edge_headers.console_policy", "dollar sign"],
        ),
        "policy with a backslash": (changed("edge_headers", console_policy="a\\"), ["edge_headers.console_policy", "backslash"]),
        "policy with a header": (
            changed("edge_headers", console_policy="a\nX-Evil: 1"),
            ["edge_headers.console_policy", "line break"],
        ),
        "policy with a bare return": (
            changed("edge_headers", permissions_policy="a\rX-Evil: 1"),
            ["edge_headers.permissions_policy", "line break"],
        ),
        "no policy": (changed("edge_headers", console_policy=""), ["edge_headers.console_policy", "is empty"]),
        "policy outside ASCII": (
            changed("edge_headers", permissions_policy="usb=(“x”)"),
            ["edge_headers.permissions_policy", "ASCII"],
        ),
        "address is a word": (
            listening(bind_address="everywhere"),
            ["edge_listen.bind_address is 'everywhere'", "one of its own"],
        ),
        "address with a port": (listening(bind_address="127.0.0.1:80"), ["edge_listen.bind_address", "one of its own"]),
        "address with a zone": (listening(bind_address="fe80::1%eth0"), ["edge_listen.bind_address", "one of its own"]),
        "address of IPv6": (
            listening(bind_address="::"),
            ["edge_listen.bind_address is '::'", "to an IPv4 address", "edge_trusted_proxies"],
        ),
        "address of many hosts": (
            listening(bind_address="255.255.255.255"),
            ["edge_listen.bind_address is '255.255.255.255'", "one of its own"],
        ),
        "network with host bits": (
            changed("edge_trusted_proxies", networks=["10.0.0.1/8"]),
            ["edge_trusted_proxies.networks", "10.0.0.1/8", "198.51.100.0/24"],
        ),
        "everybody is trusted": (
            changed("edge_trusted_proxies", networks=["0.0.0.0/0"]),
            ["edge_trusted_proxies.networks", "0.0.0.0/0", "198.51.100.0/24"],
        ),
        "half of everybody": (
            changed("edge_trusted_proxies", networks=["8000::/1"]),
            ["edge_trusted_proxies.networks", "8000::/1"],
        ),
        "network with a directive": (
            changed("edge_trusted_proxies", networks=["10.0.0.0/8; a"]),
            ["edge_trusted_proxies.networks", "10.0.0.0/8; a"],
        ),
        "allowed by a word": ({"edge_allowed_networks": ["office"]}, ["edge_allowed_networks", "office", "198.51.100.0/24"]),
        "everybody is allowed": ({"edge_allowed_networks": ["0.0.0.0/0"]}, ["edge_allowed_networks", "leave the list empty"]),
        "nobody is limited": (
            changed("edge_limit_rules", exempt_networks=["::/0"]),
            ["edge_limit_rules.exempt_networks", "::/0", "198.51.100.0/24"],
        ),
        "everybody during maintenance": (
            changed("edge_maintenance", allowed_networks=["0.0.0.0/0"]),
            ["edge_maintenance.allowed_networks", "0.0.0.0/0"],
        ),
        "maintenance without an end": (
            changed("edge_maintenance", retry_after_seconds=0),
            ["edge_maintenance.retry_after_seconds (0)", "1 to 86400"],
        ),
        "all of it public": ({"edge_public_paths": ["/api/"]}, ["edge_public_paths is /api/", "below /api/"]),
        "all of a version public": ({"edge_public_paths": ["/api/v1/"]}, ["edge_public_paths is /api/v1/", "whole API"]),
        "public path outside": ({"edge_public_paths": ["/internal/verify"]}, ["edge_public_paths is /internal/verify"]),
        "public path with a directive": ({"edge_public_paths": ["/api/a/; return 200"]}, ["edge_public_paths"]),
        "public path that leads up": ({"edge_public_paths": ["/api/a/../v1/"]}, ["edge_public_paths"]),
        "public twice": ({"edge_public_paths": ["/api/a", "/api/a"]}, ["edge_public_paths", "once"]),
        "header with a directive": (
            changed("edge_trusted_proxies", header="X-Real-IP; a"),
            ["edge_trusted_proxies.header", "X-Forwarded-For"],
        ),
        "header is a variable": (
            changed("edge_trusted_proxies", header="$http_x"),
            ["edge_trusted_proxies.header is '$http_x'", "X-Forwarded-For"],
        ),
        "no templates": ({"edge_template_directory": "/absent"}, ["edge_template_directory is '/absent'", "nginx.conf.j2"]),
        "bodies too large": (
            changed("edge_limits", body_size_bytes=8388609),
            ["edge_limits.body_size_bytes (8388609)", "Raise tmpfs_size"],
        ),
        "port 0": (listening(http_port=0), ["edge_listen.http_port", "from 1 to 65535"]),
        "port too high": (listening(https_port=65536), ["edge_listen.https_port", "from 1 to 65535", "65536"]),
        "one port for both": (listening(http_port=4443, https_port=4443), ["edge_listen.http_port", "two different ports"]),
    },
    "postgres": {
        "database too small": (
            changed("postgres_resources", memory="255m"),
            ["postgres_resources.memory (255m)", "256m or more"],
        ),
        "too many for the database": ({"postgres_connections": {"max": 221}}, ["postgres_connections.max (221)", "220 or less"]),
        "losing data": ({"postgres_settings": {"fsync": "off"}}, ["fsync=off would lose data", "allowed: on"]),
        "second setting in one": (
            {"postgres_settings": {"work_mem": "4MB\nfsync=off"}},
            ["postgres_settings", "work_mem holds a line break"],
        ),
        "setting is a list": (
            {"postgres_settings": {"shared_preload_libraries": ["a"]}},
            ["shared_preload_libraries", "neither text"],
        ),
    },
    "one by one: memory of the edge": {
        "edge too small": (
            changed("edge_resources", memory="330m"),
            ["edge_resources.memory (330m)", "are 331m", "lower edge_limits.worker_connections"],
        ),
        "edge of too many processors": (
            changed("edge_resources", cpus=2.0, memory="574m"),
            ["edge_resources.memory (574m)", "(2)", "are 575m"],
        ),
    },
    "one by one: secrets": {
        "weak secret": (
            {"secrets_supplied": {"jwt_secret": "changeme"}},
            ["secrets_supplied.jwt_secret", "openssl rand -hex 32"],
        ),
        "unknown secret": (
            {"secrets_supplied": {"jwt_secrt": "x" * 40}},
            ["secrets_supplied.jwt_secrt", "these can", "jwt_secret"],
        ),
        "secret is a number": ({"secrets_supplied": {"cache_password": 7}}, ["secrets_supplied.cache_password", "openssl rand"]),
    },
    "tls": {
        "further name": ({"tls_extra_domains": ["not a name"]}, ["tls_extra_domains", "not a name", "www.example.com"]),
        "further name with a line break": ({"tls_extra_domains": ["a.example\n"]}, ["tls_extra_domains", "www.example.com"]),
        "further name too long": ({"tls_extra_domains": [f"{'a.' * 130}example"]}, ["tls_extra_domains", "www.example.com"]),
        "renewed at once": (
            changed("tls_self_signed", renew_before_days=365),
            ["renew_before_days (365)", "less than days (365)"],
        ),
        "never renewed": (changed("tls_self_signed", renew_before_days=0), ["renew_before_days (0)", "1 or more"]),
        "longer than its authority": (changed("tls_self_signed", ca_days=364), ["days (365) must not exceed ca_days (364)"]),
        "for ever": (changed("tls_self_signed", ca_days=36501), ["ca_days (36501)", "36500"]),
    },
    "one by one: certificates": {
        "certificate not named": (
            provided("", "good.key"),
            ["tls_provided.certificate is not set", "absolute path of a PEM file"],
        ),
        "certificate not there": (
            provided("absent", "good.key"),
            ["tls_provided.certificate", "/absent'", "absolute path of a PEM file"],
        ),
        "key not there": (
            provided("good.pem", "absent"),
            ["tls_provided.private_key", "/absent'", "absolute path of a PEM file"],
        ),
        "key for a certificate": (provided("good.key", "good.key"), ["tls_provided.certificate", "no certificate in PEM form"]),
        "certificate for a key": (provided("good.pem", "good.pem"), ["tls_provided.private_key", "no private key in PEM form"]),
        "key with a passphrase": (provided("good.pem", "locked.key"), ["tls_provided.private_key", "openssl pkey -in"]),
        "key of another": (provided("good.pem", "other.key"), ["tls_provided.private_key", "is not the key of", "Name the key"]),
        "expired": (provided("expired.pem", "expired.key"), ["tls_provided.certificate", "is valid from", "Renew it"]),
        "not yet valid": (provided("early.pem", "early.key"), ["tls_provided.certificate", "is valid from", "the clock"]),
        "chain cut off": (provided("cut.pem", "good.key"), ["tls_provided.certificate", "cannot be served", "whole certificate"]),
        "key beside it": (provided("both.pem", "good.key"), ["tls_provided.certificate", "holds a private key, too"]),
        "weak key": (provided("weak.pem", "weak.key"), ["tls_provided.certificate", "key too small", "RSA 2048"]),
        "name not covered": (provided("good.pem", "good.key", "a.example"), ["does not cover DNS:a.example", "seawall_domain"]),
    },
    "one by one: an authority": {
        "terms not agreed to": (acme(agree_to_terms=False), ["tls_acme.agree_to_terms is false", "set it to true"]),
        "one name of several": (
            acme() | {"tls_extra_domains": ["www.example.com", "intranet"]},
            ["is intranet,", "of the public DNS"],
        ),
    },
    "an authority": {
        "directory without TLS": (
            acme(directory_url="http://acme.example.com/dir"),
            ["tls_acme.directory_url is 'http://acme.example.com/dir'", "https://acme-v02.api.letsencrypt.org/directory"],
        ),
        "directory with a line break": (acme(directory_url="https://a.example/dir\n"), ["tls_acme.directory_url", "no https"]),
        "this machine's name": (acme("localhost"), ["is localhost", "a name of the public DNS"]),
        "a name of nobody": (acme("api.example.test"), ["is api.example.test", "another tls_mode"]),
        "no address for mail": (acme(email="admin@localhost"), ["tls_acme.email is 'admin@localhost'", "leave it empty"]),
        "mail with a line break": (acme(email="admin@example.com\n"), ["tls_acme.email", "admin@example.com, or"]),
        "profile with a space": (acme(profile="short lived"), ["tls_acme.profile is 'short lived'", "tlsserver"]),
        "authorities not there": (acme(ca_bundle="/absent.pem"), ["tls_acme.ca_bundle is '/absent.pem'", "absolute path"]),
        "authorities that are none": (acme(ca_bundle=f"{FILES}/good.key"), ["tls_acme.ca_bundle", "in PEM form"]),
        "renewed at no time": (
            acme(schedule={"on_calendar": "now and then"}),
            ["tls_acme_schedule.on_calendar is 'now and then'", "04,16:00:00"],
        ),
        "renewed too late": (
            acme(schedule={"randomized_delay_seconds": 43201}),
            ["tls_acme_schedule.randomized_delay_seconds is 43201", "0 to 43200"],
        ),
    },
    "baseline": {
        "no port": (baseline("host_baseline_firewall", ssh_port=0), ["host_baseline_firewall", "from 1 to 65535"]),
        "network with host bits": (
            baseline("host_baseline_firewall", ssh_networks=["203.0.113.7/24"]),
            ["host_baseline_firewall.ssh_networks", "203.0.113.7/24"],
        ),
        "no time to sign in": (baseline("host_baseline_sshd", login_grace_seconds=1), ["login_grace_seconds", "from 10 to 600"]),
        "no kernel setting": (
            {"host_baseline_sysctl": {"net/ipv4": "1"}} | ON,
            ["host_baseline_sysctl", "net/ipv4"],
        ),
        "nothing forwarded": (
            {"host_baseline_sysctl": {"net.ipv4.ip_forward": "0"}} | ON,
            ["net.ipv4.ip_forward to 0", "set it to 1"],
        ),
        "no time of day": (baseline("host_baseline_upgrades", reboot_time="4 o'clock"), ["reboot_time", '"04:00"']),
        "no time server": (baseline("host_baseline_time_sync", servers=["a b"]), ["host_baseline_time_sync.servers", "a b"]),
        "no size": (baseline("host_baseline_journald", max_use="much"), ["host_baseline_journald", "much"]),
        "root deploys": (baseline("host_baseline_deploy_user", name="root"), ["host_baseline_deploy_user.name", "not root"]),
        "a private key": (
            baseline("host_baseline_deploy_user", authorized_keys=["-----BEGIN OPENSSH PRIVATE KEY-----"]),
            ["host_baseline_deploy_user.authorized_keys", ".pub file"],
        ),
    },
    "more of the baseline": {
        "no port of UDP": (
            baseline("host_baseline_firewall", allowed_udp=[70000]),
            ["host_baseline_firewall", "from 1 to 65535"],
        ),
    },
    "host": {
        "memory": (
            {"preflight_minimums": {"memory_mib": 99999999, "free_gib": 0}},
            ["MiB of memory", "preflight_minimums.memory_mib"],
        ),
        "disk": (
            {"preflight_minimums": {"memory_mib": 1, "free_gib": 9999999}},
            ["too little disk space", "preflight_minimums.free_gib"],
        ),
        "distribution": ({"preflight_distributions": {"plan9": ["4"]}}, ["is not supported", "plan9 4"]),
        "processors": (changed("cache_resources", cpus=999.0), ["given 999.0 CPUs", "cache_resources"]),
        "more memory than there is": (
            changed("postgres_resources", memory="99999g"),
            ["102398976 MiB of memory", "postgres_resources"],
        ),
        "address of another host": (
            listening(bind_address="192.0.2.1"),
            ["edge_listen.bind_address is 192.0.2.1", "does not have", "ip address"],
        ),
        "address of a whole network": (
            listening(bind_address="127.255.255.255"),
            ["edge_listen.bind_address is 127.255.255.255", "does not have", "ip address"],
        ),
        "taken port": (listening(https_port="{{ test_taken_port }}"), ["is taken by", "edge_listen"]),
        "root of another project": (
            {"seawall_root": "{{ test_other_root }}", "seawall_project": "mine"},
            ["holds the installation of theirs", "seawall_project is mine", "Set seawall_project: theirs"],
        ),
        "port taken for HTTP/3": (
            listening(https_port="{{ test_taken_udp_port }}") | {"edge_http3": True},
            ["/udp is taken by", "edge_http3"],
        ),
    },
}


def key_pair(
    directory: Path,
    name: str,
    first_day: int = -1,
    last_day: int = 90,
    passphrase: bytes = b"",
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
) -> None:
    """A certificate for localhost, valid from one day to another counted from today, and its key."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    today = datetime.now(UTC)
    builder = x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(today + timedelta(days=first_day)).not_valid_after(today + timedelta(days=last_day))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    (directory / f"{name}.pem").write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    protection = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
    (directory / f"{name}.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


CASES = {case: words for part in BAD.values() for case, (_, words) in part.items()}


def touched(settings: Settings) -> Parts:
    """What differs from the defaults: of a dict that has all of its keys only the changed ones, as (setting, key)."""
    found: Parts = {}
    for name, value in settings.items():
        default = DEFAULTS.get(name, "")
        if (
            name in REFUSED_AS_A_WHOLE
            or not isinstance(value, dict)
            or not isinstance(default, dict)
            or default.keys() - value.keys()
        ):
            found[name, ""] = value
        else:
            found |= {(name, key): entry for key, entry in value.items() if key not in default or entry != default[key]}
    return found


def collide(one: Parts, other: Parts) -> bool:
    """What both want alike, such as the mode that makes a setting count, is no reason to part them."""
    alike = {part for part in one.keys() & other.keys() if one[part] == other[part]}
    one, other = ({part: value for part, value in settings.items() if part not in alike} for settings in (one, other))
    whole = {name for name, key in [*one, *other] if not key}
    return bool(one.keys() & other.keys() or {name for name, _ in one} & {name for name, _ in other} & whole)


def settings_from(parts: Parts) -> Settings:
    """The settings again, with the defaults for the keys that were not touched."""
    settings: Settings = {}
    for (name, key), value in parts.items():
        given: Settings = settings.get(name) or DEFAULTS.get(name) or {}
        settings[name] = {**given, key: value} if key else value
    return settings


def hosts_of_bad_values() -> tuple[dict[str, Settings], dict[str, str]]:
    """The settings of each host, and the host of each case: cases of a part share one unless they are about the same."""
    hosts: dict[str, Parts] = {}
    host_of: dict[str, str] = {}
    for part, cases in BAD.items():
        of_part: list[str] = []
        for case, (settings, _) in cases.items():
            parts = touched(settings)
            with_room = [host for host in of_part if not part.startswith("one by one") and not collide(hosts[host], parts)]
            if not with_room:
                with_room = [re.sub(r"\W", "_", case)]
                of_part += with_room
            host_of[case] = with_room[0]
            hosts[with_room[0]] = hosts.get(with_room[0], {}) | parts
    return {host: settings_from(parts) for host, parts in hosts.items()}, host_of


HOSTS, HOST_OF = hosts_of_bad_values()


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Verdict]]:
    """Every host is this machine with other settings; nothing is reached over a network."""
    directory = tmp_path_factory.mktemp("table")
    for name in ("good", "other"):
        key_pair(directory, name)
    key_pair(directory, "expired", -30, -1)
    key_pair(directory, "early", 1, 30)
    key_pair(directory, "locked", passphrase=b"a passphrase")
    key_pair(directory, "weak", key=rsa.generate_private_key(65537, WEAK_BITS))
    (directory / "cut.pem").write_bytes((directory / "good.pem").read_bytes() * 2)
    (directory / "both.pem").write_bytes((directory / "good.pem").read_bytes() + (directory / "good.key").read_bytes())
    os.truncate(directory / "cut.pem", (directory / "cut.pem").stat().st_size - 100)
    release = parse_os_release(Path("/etc/os-release").read_text(encoding="utf-8"))
    # Not in /tmp, where no root may be.
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        socket.socket(type=socket.SOCK_DGRAM) as taken_udp,
        tempfile.TemporaryDirectory(dir=Path.home(), prefix="root-") as other,
    ):
        taken_udp.bind(("127.0.0.1", 0))
        Path(other, "compose").mkdir()
        Path(other, "compose/.env").write_text("SEAWALL_PROJECT=theirs\n", encoding="utf-8")
        everywhere = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": "{{ ansible_playbook_python }}",
            "test_files": str(directory),
            "test_ports": free_ports(2),
            "test_other_root": other,
            "test_taken_port": taken.getsockname()[1],
            "test_taken_udp_port": taken_udp.getsockname()[1],
            "seawall_domain": "localhost",
            "seawall_project": "seawall-of-nobody",
            "seawall_root": "/srv/seawall-of-no-host/root",
            # Whatever this machine is, it is good enough.
            "preflight_minimums": {"memory_mib": 1, "free_gib": 0},
            "preflight_distributions": {release.get("ID", "unknown"): [release.get("VERSION_ID", "")]},
        }
        everywhere |= listening() | NO_BASELINE
        hosts = HOSTS | {case.replace(" ", "_").replace(",", ""): settings for case, settings in GOOD.items()}
        inventory = directory / "hosts.yml"
        inventory.write_text(yaml.safe_dump({"seawall": {"hosts": hosts, "vars": everywhere}}), encoding="utf-8")
        # What is deployed on this machine publishes ports, which a firewall would close.
        yield check_hosts(inventory, docker_host="unix:///run/seawall-of-nobody.sock")


def holds(message: str, words: list[str]) -> bool:
    return all(word in message for word in words)


@pytest.mark.requirement("BEY-17")
@pytest.mark.parametrize("case", CASES)
def test_a_bad_value_is_refused_with_its_name_and_the_cure(verdicts: dict[str, Verdict], case: str) -> None:
    verdict = verdicts[HOST_OF[case]]
    assert verdict.messages, f"nothing was refused; the last task was {verdict.last_task}"
    saying = [message for message in verdict.messages if holds(message, CASES[case])]
    assert saying, verdict.messages
    # Nor may the refusal be owed to another value of the same host.
    others = [other for other in CASES if other != case and HOST_OF[other] == HOST_OF[case]]
    assert [message for message in saying if not any(holds(message, CASES[other]) for other in others)], saying


@pytest.mark.parametrize("case", GOOD)
def test_a_good_value_passes_every_check(verdicts: dict[str, Verdict], case: str) -> None:
    verdict = verdicts[case.replace(" ", "_").replace(",", "")]
    allowed = set() if os.geteuid() == 0 else {("Check the host", "root")}
    assert verdict.refused_by - allowed == set(), verdict.messages
    assert verdict.last_task == ("Check the host" if allowed else "Check the baseline's settings")


def checks_of(tasks: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Every check of a task file, by its task and its name or condition."""
    for task in tasks:
        yield from checks_of(task.get("block", []))
        if "ansible.builtin.fail" in task:
            yield task["name"].partition(";")[0], ""
        if check := task.get("ansible.builtin.assert"):
            if check["that"] == "item.that":
                of_task = task.get("vars", {}).get("__preflight_checks")
                named = task["loop"] if isinstance(task["loop"], list) else of_task or SETTINGS_CHECKS
                yield from ((task["name"], item["name"]) for item in named)
            else:
                conditions = check["that"] if isinstance(check["that"], list) else [check["that"]]
                yield from ((task["name"], str(that)) for that in conditions)


def test_every_check_has_a_value_that_it_refuses(verdicts: dict[str, Verdict]) -> None:
    files = [ROOT / "roles/preflight/tasks/main.yml", *ROOT.glob("roles/*/tasks/check*.yml")]
    checks = {check for file in files for check in checks_of(yaml.safe_load(file.read_text(encoding="utf-8")))}
    refused = {check for verdict in verdicts.values() for check in verdict.refused_by}
    # That the checks run as root cannot be had both ways in one run, containers take an engine (tests/stack), and what a
    # baseline finds takes a host (molecule/).
    elsewhere = {("Check the host", name) for name in ("root", "project of another root", "ports of another installation")}
    elsewhere |= {check for check in checks if check[0] == "Check the settings against the host"}
    assert checks - refused - elsewhere == set()
    assert len(checks) > 40
    assert len({check["name"] for check in SETTINGS_CHECKS}) == len(SETTINGS_CHECKS) > 60


def test_every_list_of_checks_is_read() -> None:
    lists = yaml.safe_load((CHECKS / "main.yml").read_text(encoding="utf-8"))["preflight_checks"]
    assert sorted(re.findall(r"\w+_checks", lists)) == sorted(f"preflight_{file.stem}_checks" for file in CHECKS_FILES)
