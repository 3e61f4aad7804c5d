"""Typos in settings are found, and settings that exist are not taken for typos."""

from __future__ import annotations

from pathlib import Path

import pytest
from known_variables import known_variables, unknown_variables

ROOT = str(Path(__file__).resolve().parents[2])


def test_every_declared_setting_is_known() -> None:
    known = known_variables(ROOT)
    assert unknown_variables(known["variables"], known) == []
    assert {"seawall_domain", "edge_listen", "api_runtime"} <= set(known["variables"])


@pytest.mark.requirement("BEY-17")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("seawall_domian", "seawall_domain"),
        ("edge_lsiten", "edge_listen"),
        ("egde_listen", "edge_listen"),
        ("tls_mod", "tls_mode"),
        ("postgres_setting", "postgres_settings"),
    ],
)
def test_a_typo_is_named_with_what_was_meant(name: str, meant: str) -> None:
    (sentence,) = unknown_variables([name], known_variables(ROOT))
    assert name in sentence
    assert f"did you mean {meant}?" in sentence


@pytest.mark.parametrize("name", ["api_colour_of_the_sky", "seawall_tls_mode", "seawall_edge_http3", "api_edge_listen"])
def test_an_unknown_name_with_our_prefix_is_refused(name: str) -> None:
    (sentence,) = unknown_variables([name], known_variables(ROOT))
    assert name in sentence


@pytest.mark.parametrize(
    "name", ["ansible_user", "my_company_mirror", "groups", "inventory_hostname", "vault_secrets_supplied", "my_edge_listen"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert unknown_variables([name], known_variables(ROOT)) == []
