"""The cache as routes ask for it."""

from typing import Annotated, cast

from fastapi import Depends, Request

from seawall_service.cache.interface import Cache


async def get_cache(request: Request) -> Cache:
    return cast("Cache", request.state.cache)


SharedCache = Annotated[Cache, Depends(get_cache)]
