"""The only reader of the configuration tree: from keys to plain arguments of everything below."""

from engine.build.checks import check_consistency
from engine.build.data import build_input, build_splits, loader_settings, trained_scales
from engine.build.measures import (
    build_pictures,
    build_protocols,
    build_verification,
    output_folder,
    plain_protocol,
    test_pairs,
    validation_pairs,
)
from engine.build.networks import build_extractor, initial_weights
from engine.build.objectives import metric_terms, octuplet_terms, single_view, twin_views
from engine.build.training import build_optimization, build_run_folder, build_schedule, build_trainer

__all__ = [
    "build_extractor",
    "build_input",
    "build_optimization",
    "build_pictures",
    "build_protocols",
    "build_run_folder",
    "build_schedule",
    "build_splits",
    "build_trainer",
    "build_verification",
    "check_consistency",
    "initial_weights",
    "loader_settings",
    "metric_terms",
    "octuplet_terms",
    "output_folder",
    "plain_protocol",
    "single_view",
    "test_pairs",
    "trained_scales",
    "twin_views",
    "validation_pairs",
]
