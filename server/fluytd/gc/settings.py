"""Settings of the automatic collection of images, as it takes them and as GetInfo tells them."""

from typing import Final

from fluytd.config import Config
from fluytd.gc.model import Settings

_NANOS_PER_SECOND: Final = 1_000_000_000
#: Setting -> its unit and what it is; a bound of 0 is none.
_TOLD: Final = {
    "enabled": ("flag", "1 if images that are not used go by themselves, by the bounds below"),
    "high_water_percent": ("percent", "of the data root's file system in use, at which images begin to go"),
    "low_water_percent": ("percent", "of the data root's file system in use, down to which images go"),
    "max_bytes": ("bytes", "of all images, above which the least recently used go"),
    "min_age_seconds": ("seconds", "since its last use, for which an image stays"),
    "max_age_seconds": ("seconds", "since its last use, after which an image goes"),
    "interval_seconds": ("seconds", "between two looks"),
}


def collection_settings(config: Config) -> Settings:
    """When images go by themselves."""
    return Settings(
        is_enabled=config.image_collection_enabled,
        high_water_percent=config.image_collection_high_water_percent,
        low_water_percent=config.image_collection_low_water_percent,
        max_bytes=config.image_collection_max_bytes,
        min_age_nanos=config.image_collection_min_age_seconds * _NANOS_PER_SECOND,
        max_age_nanos=config.image_collection_max_age_seconds * _NANOS_PER_SECOND,
    )


def pinned_patterns(config: Config) -> tuple[str, ...]:
    """Patterns of the references of images that stay."""
    return tuple(part.strip() for part in config.image_collection_pinned.split(",") if part.strip())


def collection_limits(config: Config) -> list[tuple[str, int, str, str]]:
    """(name, value, unit, what it is) of each setting."""
    names = {name: f"image_collection_{name}" for name in _TOLD}
    return [(names[name], int(getattr(config, names[name])), unit, text) for name, (unit, text) in _TOLD.items()]
