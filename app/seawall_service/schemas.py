"""What all requests and responses have in common."""

from typing import Annotated
from uuid import UUID

import orjson
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator


def storable(value: str) -> str:
    if "\x00" in value:
        raise ValueError("must not contain NUL characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError("must not contain half of a surrogate pair") from error
    return value


# JSON can carry both, PostgreSQL's text neither; without this such a request would be a 500.
Text = Annotated[str, AfterValidator(storable), Field(json_schema_extra={"pattern": r"^[^\u0000]*$"})]


def canonical_uuid(value: object) -> object:
    """Not the other spellings that UUID() takes: the database would give back another text than the client sent."""
    if isinstance(value, str):
        try:
            canonical = str(UUID(value)) == value.lower()
        except ValueError:
            canonical = False
        if not canonical:
            raise ValueError("must be a UUID such as 00000000-0000-4000-8000-000000000001")
    return value


# JSON has no UUIDs, so strings are what a strict request must take here.
JsonUUID = Annotated[UUID, BeforeValidator(canonical_uuid), Field(strict=False)]


class StrictRequest(BaseModel):
    """No coercion and no unknown fields: `"1"` and `false` are not numbers, and a typo is an error."""

    model_config = ConfigDict(strict=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def only_the_first_unknown(cls, data: object) -> object:
        """One unknown field is enough to refuse the rest: pydantic makes an error, with its memory, of each."""
        if not isinstance(data, dict):
            return data
        known = {name: data[name] for name in cls.model_fields if name in data}
        unknown = next((name for name in data if name not in known), None)
        return known if unknown is None else known | {unknown: data[unknown]}

    def as_sent(self) -> bytes:
        """What the client said and nothing else, by name: the same in a release that knows more fields, or in another order."""
        return orjson.dumps(self.model_dump(mode="json", exclude_unset=True), option=orjson.OPT_SORT_KEYS)


class BaseResponse(BaseModel):
    """Every response model inherits from this."""

    model_config = ConfigDict(extra="forbid", frozen=True)
