"""The only reader of the configuration tree: from keys to plain arguments of everything below."""

from engine.build.checks import check_consistency, check_training
from engine.build.data import (
    TrainingData,
    build_input,
    build_test_data,
    build_training_data,
    camera_rule,
    loader_settings,
    preprocessing_of,
    test_names,
    trained_scales,
)
from engine.build.low_resolution import build_low_resolution, resolutions, scales_of
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
from engine.build.objectives import build_objective, views_of
from engine.build.training import build_optimization, build_run_folder, build_schedule, build_trainer

__all__ = [
    "TrainingData",
    "build_extractor",
    "build_input",
    "build_low_resolution",
    "build_objective",
    "build_optimization",
    "build_pictures",
    "build_protocols",
    "build_run_folder",
    "build_schedule",
    "build_test_data",
    "build_trainer",
    "build_training_data",
    "build_verification",
    "camera_rule",
    "check_consistency",
    "check_training",
    "initial_weights",
    "loader_settings",
    "output_folder",
    "plain_protocol",
    "preprocessing_of",
    "resolutions",
    "scales_of",
    "test_names",
    "test_pairs",
    "trained_scales",
    "validation_pairs",
    "views_of",
]
