"""The schema of the configuration: every key with its default, meaning, unit and allowed values.

Print it with ``python -m configs``. Keys are read in ``engine`` and nowhere below.
"""

from configs.schema import Key, above, at_least, between, flatten, names, numbers, one_of, rising, some_of
from utils.processes import MAX_WORKERS

_SECTIONS: dict[str, Key | dict[str, Key]] = {
    "MODEL": {
        "NAME": Key("resnet50", "The backbone is e.g. resnet50, osnet_x1_0, vit_base, swin_tiny_solider, timm:NAME."),
        "HEAD": Key(
            "bnneck",
            "The head is bnneck (Luo et al.), projection (OSNet), jpm (TransReID), lmbn (LightMBN), mgn (also "
            "mgn_norm of LUPerson and mgn_relu of old fast-reid) or reduction (old fast-reid).",
        ),
        "EMBEDDING_DIM": Key(
            0, "A linear layer gives an embedding this many components; 0 = no layer (projection: 512).", at_least(0)
        ),
        "BACKBONE_EMB_SIZE": Key(
            0, "The feature map has this many channels; 0 = inferred, any other number is checked.", at_least(0)
        ),
        "POOLING": Key(
            "avg",
            "The feature map is pooled by its mean (avg), its maximum (max), or a power mean of learned (gem) or "
            "fixed (3, gem_fixed) power.",
        ),
        "RETRIEVAL_FEATURE": Key(
            "bn",
            "Retrieval compares the feature after the head's batch normalization (bn) or before it (raw).",
            one_of("bn", "raw"),
        ),
        "PRETRAINED": Key(
            True,
            "Training without MODEL.PRETRAIN_PATH starts from ImageNet weights, downloaded from torchvision, IBN-Net "
            "or timm; an OSNet needs the file as MODEL.PRETRAIN_PATH.",
        ),
        "PRETRAIN_PATH": Key(
            "",
            "This file, folder of export.py or of roboflow, or hf://owner/repo/file holds the weights: a checkpoint "
            "of ours (the only kind to resume), a trained model of another project, or, for training alone, a "
            "backbone; its content decides.",
        ),
        "RESUME_TRAINING": Key(False, "Training continues the run that wrote MODEL.PRETRAIN_PATH, in its folder."),
        "USE_CENTROIDS": Key(
            False, "Evaluation adds centroid retrieval (CTL: True); inference searches the mean of each identity."
        ),
        "KEEP_CAMID_CENTROIDS": Key(
            True, "A query's own centroid leaves out images of its camera; False keeps them, which is easier."
        ),
        "LAST_STRIDE": Key(1, "A ResNet's last stage has this stride; 1 doubles the map's sides.", one_of(1, 2)),
        "LAST_DILATION": Key(
            1, "A ResNeSt's last stage has this dilation; 2 fits weights of fast-reid since 2020-12.", one_of(1, 2)
        ),
        "STEM_RELU": Key(True, "A ResNet's stem ends in a ReLU; False fits centroids-reid, trained without it."),
        "STEM_POOL": Key(
            "padded", "A ResNet's stem pools a padded map; ceil fits weights of fast-reid.", one_of("padded", "ceil")
        ),
        "SEMANTIC_WEIGHT": Key(
            0.2, "A Swin of SOLIDER shows this much of human parts, and the rest of appearance.", between(0, 1)
        ),
        "PATCH_STRIDE": Key(
            16, "The patches of a ViT are this many pixels apart; below 16 they overlap.", between(1, 16)
        ),
        "CAMERAS": Key(
            0, "A ViT learns a vector for each of this many cameras; 0 = it does not look at cameras.", at_least(0)
        ),
        "FIRST_CAMERA": Key(
            1, "The camera of this number in the data is the first one of MODEL.CAMERAS.", at_least(0)
        ),
        "DROP_PATH": Key(
            0.0, "Training leaves out the last block of a transformer for this share of images.", between(0, 0.99)
        ),
    },
    "INPUT": {
        "SIZE_TRAIN": Key([256, 128], "Training images get this height and width, in pixels.", numbers(2, 8)),
        "SIZE_TEST": Key([256, 128], "Test images get this height and width, in pixels.", numbers(2, 8)),
        "INTERPOLATION": Key(
            "bilinear", "Images are resized by this interpolation, antialiased.", one_of("bilinear", "bicubic")
        ),
        "FLIP_PROB": Key(
            0.5, "A training image is flipped horizontally with this probability (also INPUT.PROB).", between(0, 1)
        ),
        "RE_PROB": Key(0.5, "A training image loses a random patch with this probability.", between(0, 1)),
        "RE_VALUE": Key(
            "mean",
            "The patch becomes the mean color, black (zero), or a normal number for each value (noise).",
            one_of("mean", "zero", "noise"),
        ),
        "COLOR_JITTER_PROB": Key(
            0.0, "Brightness, contrast, saturation and hue change with this probability.", between(0, 1)
        ),
        "AUTO_AUGMENT_PROB": Key(
            0.0, "A policy of AutoAugment for ImageNet is applied with this probability.", between(0, 1)
        ),
        "GRAYSCALE_PROB": Key(0.0, "A training image becomes gray with this probability.", between(0, 1)),
        "BLUR_PROB": Key(0.0, "A training image is blurred with this probability.", between(0, 1)),
        "PADDING": Key(10, "The random crop in training adds a zero border of this width, in pixels.", at_least(0)),
        "PIXEL_MEAN": Key([0.485, 0.456, 0.406], "This mean of R, G, B in [0, 1] is subtracted.", numbers(3, 0)),
        "PIXEL_STD": Key([0.229, 0.224, 0.225], "R, G, B are then divided by this deviation.", numbers(3, 1e-6)),
        "SCALE": Key(
            1,
            "Images are bicubic-downsampled by this factor and upsampled again (in octuplet fine-tuning: as a second "
            "view); the option --scale sets it.",
            at_least(1),
        ),
        "LR_SCALES": Key(
            [], "Training draws one of these factors per image, e.g. [2, 4, 8]; [] = INPUT.SCALE.", numbers(None, 1)
        ),
        "LR_ANTIALIAS": Key(True, "Downsampling removes fine detail first, as a camera does; False = plain bicubic."),
    },
    "DATASETS": {
        "NAMES": Key(
            "market1501", "Training reads this name, folder or CSV file, or several: \"('market1501','cuhk03')\"."
        ),
        "TEST_NAMES": Key("", "test.py uses these data sets, validation the first; empty = DATASETS.NAMES."),
        "ROOT_DIR": Key("../datasets", "This folder holds the data sets, or the images that inference embeds."),
        "SPLIT_SEED": Key(0, "A data set without a split gets one from this seed, and it is saved.", at_least(0)),
        "LR_SOURCE": Key(
            "online",
            "Low resolution is made from the network's input, on the device (online), or read from the files that "
            "makelr.py wrote to {folder}_x{scale} (disk).",
            one_of("online", "disk"),
        ),
        "CHECK_FILES": Key(False, "Every image is decoded before anything runs."),
        "ON_BAD_FILE": Key("error", "CHECK_FILES stops at a damaged image, or skips it.", one_of("error", "skip")),
        "CACHE_DIR": Key(
            "",
            "Training keeps its images, decoded and resized, in this folder for the next epochs and runs; empty = it "
            "decodes them in each epoch.",
        ),
    },
    "DATALOADER": {
        "NUM_WORKERS": Key(
            4, "This many processes decode images; 0 = the main process does.", between(0, MAX_WORKERS)
        ),
        "NUM_INSTANCE": Key(4, "A batch holds this many images of one identity (K).", at_least(2)),
        "USE_RESAMPLING": Key(True, "Identities of fewer than K images repeat them; False = smaller batches (CTL)."),
    },
    "SOLVER": {
        "IMS_PER_BATCH": Key(64, "A batch of one process holds this many images: P x NUM_INSTANCE.", at_least(4)),
        "MAX_EPOCHS": Key(
            120,
            "Training takes this many epochs; each shows all identities, and all images unless one person dominates.",
            at_least(1),
        ),
        "OPTIMIZER_NAME": Key("Adam", "The optimizer is Adam, AdamW, SGD or Adagrad."),
        "BASE_LR": Key(3.5e-4, "The learning rate has this value after the warm-up.", above(0)),
        "WEIGHT_DECAY": Key(5e-4, "The optimizer decays the weights by this factor.", at_least(0)),
        "DECAY_VECTORS": Key(True, "Biases and the weights of normalizations decay too."),
        "BIAS_LR_FACTOR": Key(1.0, "Biases learn at this multiple of the rate.", above(0)),
        "LAYER_DECAY": Key(
            1.0, "A block of the backbone learns at this share of the rate of the block behind it.", between(0.01, 1)
        ),
        "FREEZE_EPOCHS": Key(
            0.0, "The backbone stays as it is for this many epochs, its normalizations too.", at_least(0)
        ),
        "FREEZE_ITERATIONS": Key(0, "The same in steps; above 0 it replaces SOLVER.FREEZE_EPOCHS.", at_least(0)),
        "MOMENTUM": Key(0.9, "SGD uses this momentum; the other optimizers do not.", between(0, 1)),
        "LR_SCHEDULER_NAME": Key(
            "multistep_lr",
            "After the warm-up the rate falls in steps (multistep_lr) or along half a cosine (cosine_annealing).",
        ),
        "LR_STEPS": Key([40, 70], "multistep_lr lowers the rate when these epochs start, counted from 0.", rising(1)),
        "GAMMA": Key(0.1, "multistep_lr multiplies the rate by this factor at each step.", between(0, 1)),
        "MIN_LR": Key(7.7e-7, "cosine_annealing ends at this rate.", at_least(0)),
        "WARMUP_EPOCHS": Key(10, "The rate rises linearly with each step of this many epochs; 0 = off.", at_least(0)),
        "WARMUP_ITERATIONS": Key(0, "The same in steps; above 0 it replaces SOLVER.WARMUP_EPOCHS.", at_least(0)),
        "DELAY_EPOCHS": Key(
            0, "cosine_annealing begins to fall at this epoch, and not before SOLVER.WARMUP_EPOCHS end.", at_least(0)
        ),
        "WARMUP_FACTOR": Key(0.01, "The warm-up starts at this share of SOLVER.BASE_LR.", between(0, 1)),
        "TERMS": Key(
            [],
            "The objective adds these losses, of identity, triplet, weighted_triplet, circle, multi_similarity, "
            "center, centroid_triplet, octuplet; [] = those of the method, and each whose weight is set above 0.",
            names(),
            example=("identity", "triplet"),
        ),
        "QUERY_XENT_WEIGHT": Key(1.0, "The label-smoothed cross entropy has this weight; 0 = off.", at_least(0)),
        "LABEL_SMOOTHING": Key(0.1, "This share of the target is spread over all identities.", between(0, 0.99)),
        "CLASSIFIER": Key(
            "linear",
            "Identities are classified by a linear layer, or by cosines with a margin (arcface, cosface, circle).",
            one_of("linear", "arcface", "cosface", "circle"),
        ),
        "CLASSIFIER_MARGIN": Key(0.35, "The cosines have this margin (arcface: in radians).", at_least(0)),
        "CLASSIFIER_SCALE": Key(64.0, "The cosines are multiplied by this before the softmax.", above(0)),
        "QUERY_CONTRASTIVE_WEIGHT": Key(1.0, "The triplet loss has this weight; 0 = off.", at_least(0)),
        "WEIGHTED_TRIPLET_WEIGHT": Key(1.0, "The weighted triplet loss (AGW) has this weight; 0 = off.", at_least(0)),
        "CIRCLE_WEIGHT": Key(1.0, "The pairwise circle loss has this weight; 0 = off.", at_least(0)),
        "MULTI_SIMILARITY_WEIGHT": Key(1.0, "The multi-similarity loss has this weight; 0 = off.", at_least(0)),
        "CENTROID_CONTRASTIVE_WEIGHT": Key(1.0, "The centroid triplet loss has this weight; 0 = off.", at_least(0)),
        "OCTUPLET_WEIGHT": Key(1.0, "The octuplet loss has this weight in octuplet fine-tuning.", above(0)),
        "OCTUPLET_MARGIN": Key(25.0, "The octuplet loss has this margin, in units of its distance.", at_least(0)),
        "OCTUPLET_FEATURE": Key(
            "bn",
            "The octuplet loss compares features after the BNNeck (bn), whose distances are of the margin's size, or "
            "before it (raw), as the original does, where they may be far smaller.",
            one_of("bn", "raw"),
        ),
        "OCTUPLET_DISTANCE": Key(
            "euclidean", "The octuplet loss measures this distance.", one_of("euclidean", "sqeuclidean", "cosine")
        ),
        "OCTUPLET_TERMS": Key(
            ["hh", "hl", "lh", "ll"],
            "The octuplet loss adds these triplets: the anchor's resolution, high or low, then that of the others.",
            some_of("hh", "hl", "lh", "ll"),
        ),
        "MARGIN": Key(0.3, "The triplet losses have this margin, in units of their distance.", at_least(0)),
        "SOFT_MARGIN": Key(
            False, "Triplet losses take log(1 + exp(positive - negative)) instead of a margin, the octuplet loss too."
        ),
        "METRIC_FEATURE": Key(
            "raw",
            "Triplet losses and losses of pairs compare the feature before the BNNeck (raw) or after it (bn).",
            one_of("raw", "bn"),
        ),
        "DISTANCE_FUNC": Key(
            "euclidean", "The triplet losses measure this distance.", one_of("euclidean", "sqeuclidean", "cosine")
        ),
        "CENTER_LOSS_WEIGHT": Key(5e-4, "The center loss has this weight; 0 = off.", at_least(0)),
        "CENTER_LR": Key(0.5, "The SGD that moves the centers has this rate.", above(0)),
        "ACCUMULATE_BATCHES": Key(
            1, "The gradients of this many batches are averaged for one step of the optimizers.", at_least(1)
        ),
        "GATHER_EMBEDDINGS": Key(
            False,
            "The losses see the batches of all processes as one, for hard pairs of the joint batch; one process "
            "ignores it.",
        ),
        "AVERAGE_DECAY": Key(
            0.0,
            "Above 0, a moving average of the network keeps this share of itself in each step (0.999); validation, "
            "test and inference use it.",
            between(0, 0.99999),
        ),
        "GRADIENT_CLIP_VAL": Key(0.0, "Gradients are clipped to this norm; 0 = no clipping.", at_least(0)),
        "EVAL_PERIOD": Key(
            10, "Validations are this many epochs apart; 10 = epochs 9, 19, ... from 0 on, and the last.", at_least(1)
        ),
        "CHECKPOINT_PERIOD": Key(
            5, "Checkpoints are this many epochs apart; 5 = epochs 5, 10, ... from 0 on, and the last.", at_least(1)
        ),
        "LOG_PERIOD": Key(10, "Logged training values are this many steps apart.", at_least(1)),
    },
    "TEST": {
        "IMS_PER_BATCH": Key(128, "A batch of validation, test or inference holds this many images.", at_least(1)),
        "PROTOCOLS": Key(
            ["instance"],
            "Evaluation retrieves images (instance), identity centroids (centroid), or the latter as published "
            "in 2021 (centroid_ctl2021: wrong camera index included, for comparison with published tables only).",
            names(1),
        ),
        "RERANK": Key(False, "The report has one more row: instance retrieval with k-reciprocal re-ranking."),
        "RERANK_K1": Key(20, "Re-ranked images must find each other among this many neighbors.", at_least(1)),
        "RERANK_K2": Key(6, "The re-ranking's local expansion averages this many images; 1 = none.", at_least(1)),
        "RERANK_LAMBDA": Key(0.3, "The original distance has this weight in the re-ranking.", between(0, 1)),
        "QUERY_EXPANSION": Key(
            0,
            "This many gallery images join each query (a row of the report; with TEST.RERANK two); 0 = none.",
            at_least(0),
        ),
        "QUERY_EXPANSION_ALPHA": Key(
            3.0, "A gallery image joins with its similarity to this power as weight; 0 weighs all alike.", at_least(0)
        ),
        "FPR": Key(1e-3, "The verification threshold is chosen for this false positive rate.", between(1e-9, 0.5)),
        "VISUALIZE": Key(False, "test.py writes report.html with ranked lists, CMC and ROC plots."),
        "VISUALIZE_TOPK": Key(10, "A ranked list shows this many gallery images.", at_least(1)),
        "VISUALIZE_MAX_NUMBER": Key(30, "This many lists are drawn, a third each worst, median, best.", at_least(1)),
        "SCALES": Key([], "The test runs at these scales, e.g. [1, 2, 4]; [] = INPUT.SCALE.", numbers(None, 1)),
        "SCALE_PAIRS": Key(
            "both",
            "Scales lower query and gallery alike (both), one side alone (query, gallery), or in all pairs (all).",
            one_of("both", "query", "gallery", "all"),
        ),
        "CAMERAS": Key(
            False,
            "The test's cameras are those that MODEL.CAMERAS has learned; False = they are taken for unknown.",
        ),
        "FLIP": Key(False, "Validation and test compare the mean of an image's vector and its mirror image's."),
        "CAMERA_RULE": Key(True, "Evaluation ignores gallery images of the query's own identity and camera."),
    },
    "TRAINER": {
        "ACCELERATOR": Key("auto", "This device computes; auto = CUDA, else the CPU.", one_of("auto", "cpu", "cuda")),
        "DEVICES": Key(
            1, "This many processes run on each machine, one per GPU; several train with DDP.", at_least(1)
        ),
        "NUM_NODES": Key(1, "The run has this many machines, each started by torchrun or SLURM.", at_least(1)),
        "SYNC_BATCHNORM": Key(
            False, "Batch normalization takes the statistics of all processes; GPUs only, one process ignores it."
        ),
        "PRECISION": Key(
            "auto",
            "Training computes in this precision; validation and test too if it is set by hand, else in 32-true. "
            "auto = the faster of 32-true and 16 bits here, but 16 bits only where they are known to keep the mAP.",
            one_of("auto", "32-true", "bf16-mixed", "16-mixed"),
        ),
        "LAYOUT": Key(
            "channels_last",
            "Training keeps feature maps in this order in memory; auto = the faster one here.",
            one_of("auto", "channels_last", "contiguous"),
        ),
        "TF32": Key(True, "CUDA rounds the factors of float32 products to TF32 (10 bits) in training."),
        "COMPILE": Key(False, "Training compiles the network (torch.compile); the CPU needs a C++ compiler."),
    },
    "REPRODUCIBLE": Key(
        False,
        "CUDA runs deterministic algorithms only, which is slower (the CPU always does), and TRAINER's auto is the "
        "default, not the fastest.",
    ),
    "REPRODUCIBLE_SEED": Key(0, "This seed decides everything random.", between(0, 2**32 - 1)),
    "LOGS_DIR": Key("logs", "This folder holds the runs: checkpoints, config.yml, metrics.csv, log.txt."),
    "RUNS_DIR": Key("runs", "This folder holds the TensorBoard logs."),
    "OUTPUT_DIR": Key("output_dir", "This folder holds the results of test and inference."),
}

# By dotted name, such as SOLVER.BASE_LR; a plugin adds a key: SCHEMA["SOLVER.MY_WEIGHT"] = Key(...).
SCHEMA: dict[str, Key] = flatten(_SECTIONS)

# The keys of the original code that have a better name here; files, command lines and checkpoints may use both.
OLD_NAMES = {"INPUT.PROB": "INPUT.FLIP_PROB"}
