"""Many templates rendered at once."""

from __future__ import annotations

DOCUMENTATION = r"""
name: seawall_templates
short_description: What ansible.builtin.template renders, without a copy of all variables for each file
description:
  - The lookup of Ansible copies every variable of the host for every template: for the edge's files an eighth of a deploy.
  - There are no options, and no C(template_path) and the like for the templates to use.
options:
  _terms: {description: Paths of templates., required: true}
"""

import os
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleError
from ansible.template import trust_as_template

if TYPE_CHECKING:

    class LookupBase:
        """What is used here of Ansible's, which has no types."""

        _loader: Any
        _templar: Any

        def find_file_in_search_path(self, variables: dict[str, Any] | None, subdirectory: str, name: str) -> str | None: ...

else:
    from ansible.plugins.lookup import LookupBase


class LookupModule(LookupBase):
    """Ansible's entry point."""

    def run(self, terms: list[str], variables: dict[str, Any] | None = None, **_: object) -> list[str]:
        known = {"ansible_managed": "Ansible managed"} | (variables or {})
        rendered: list[str] = []
        for term in terms:
            path = self.find_file_in_search_path(variables, "templates", term)
            if not path:
                raise AnsibleError(f"the template {term} could not be found")
            text = trust_as_template(self._loader.get_text_file_contents(path))
            templar = self._templar.copy_with_new_env(available_variables=known, searchpath=[os.path.dirname(path)])
            rendered.append(templar.template(text, escape_backslashes=False))
        return rendered
