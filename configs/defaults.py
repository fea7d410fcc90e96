"""The schema of the configuration: every key with its default, meaning, unit and allowed values.

Print it with ``python -m configs``. Keys are read in ``engine`` and nowhere below.
"""

from configs.schema import Key, above, at_least, between, numbers, one_of, rising, some_of

KEYS: dict[str, Key] = {
    "MODEL.NAME": Key("resnet50", "backbone: resnet18 ... resnet152, resnet50_ibn_a, osnet_x0_25, timm:NAME, ..."),
    "MODEL.HEAD": Key(
        "bnneck", "bnneck (Luo et al.), or projection: OSNet's linear layer", one_of("bnneck", "projection")
    ),
    "MODEL.EMBEDDING_DIM": Key(
        0,
        "components of an embedding, by a linear layer; 0 = none, the backbone's width (projection: 512)",
        at_least(0),
    ),
    "MODEL.BACKBONE_EMB_SIZE": Key(
        0, "channels of the backbone's feature map; 0 = found by itself, another number must be right", at_least(0)
    ),
    "MODEL.POOLING": Key("avg", "of the feature map; gem learns its power", one_of("avg", "max", "gem")),
    "MODEL.PRETRAINED": Key(
        True,
        "start from ImageNet weights where MODEL.PRETRAIN_PATH is empty: those of torchvision, IBN-Net or timm are "
        "downloaded; an OSNet needs the file as MODEL.PRETRAIN_PATH",
    ),
    "MODEL.PRETRAIN_PATH": Key(
        "",
        "a checkpoint of ours or a trained model of another project (train on, fine-tune, test, inference; resume: "
        "ours), or weights of a backbone alone (training); the content decides",
    ),
    "MODEL.RESUME_TRAINING": Key(False, "continue the run that wrote MODEL.PRETRAIN_PATH, in its folder"),
    "MODEL.USE_CENTROIDS": Key(False, "evaluate centroid retrieval beside instance retrieval (CTL: True)"),
    "MODEL.KEEP_CAMID_CENTROIDS": Key(
        True, "a query's own centroid leaves out the images of its camera; False: built from all, easier"
    ),
    "MODEL.LAST_STRIDE": Key(1, "stride of a ResNet's last stage; 1 doubles the feature map", one_of(1, 2)),
    "MODEL.STEM_RELU": Key(
        True, "ReLU after a ResNet's stem; False for checkpoints of nets trained without it (the seed's family)"
    ),
    "MODEL.STEM_POOL": Key(
        "padded", "pooling in a ResNet's stem; ceil for weights of fast-reid", one_of("padded", "ceil")
    ),
    "INPUT.SIZE_TRAIN": Key([256, 128], "height and width of a training image, pixels", numbers(2, 8)),
    "INPUT.SIZE_TEST": Key([256, 128], "height and width of a test image, pixels", numbers(2, 8)),
    "INPUT.INTERPOLATION": Key("bilinear", "of the resize (antialiased)", one_of("bilinear", "bicubic")),
    "INPUT.PROB": Key(0.5, "probability of a horizontal flip in training", between(0, 1)),
    "INPUT.RE_PROB": Key(0.5, "probability of random erasing in training", between(0, 1)),
    "INPUT.PADDING": Key(10, "zero border before the random crop in training, pixels", at_least(0)),
    "INPUT.PIXEL_MEAN": Key([0.485, 0.456, 0.406], "mean of R, G, B in [0, 1], subtracted", numbers(3, 0)),
    "INPUT.PIXEL_STD": Key([0.229, 0.224, 0.225], "deviation of R, G, B, divided by", numbers(3, 1e-6)),
    "INPUT.SCALE": Key(
        1,
        "low resolution: images are bicubic-downsampled by this and upsampled again, in training and "
        "validation (in octuplet fine-tuning: the twin images); the option --scale sets it",
        at_least(1),
    ),
    "INPUT.LR_SCALES": Key(
        [],
        "training draws one of these for each image, e.g. [2, 4, 8]; [] = INPUT.SCALE",
        numbers(None, 1),
    ),
    "INPUT.LR_ANTIALIAS": Key(True, "low-pass before downsampling, as a camera does; False: the seed's"),
    "DATASETS.NAMES": Key(
        "market1501", "a data set by name, a folder, a CSV file, or several: \"('market1501','cuhk03')\""
    ),
    "DATASETS.TEST_NAMES": Key(
        "", "what test.py evaluates on, one data set or several; validation uses the first; empty = DATASETS.NAMES"
    ),
    "DATASETS.ROOT_DIR": Key("../datasets", "folder that holds the data sets"),
    "DATASETS.SPLIT_SEED": Key(
        0, "of the split that is drawn, and saved, for a data set of one's own that has none", at_least(0)
    ),
    "DATASETS.LR_SOURCE": Key(
        "online",
        "where low resolution comes from: online = from the network's input, on the device; disk = from the files "
        "of makelr.py in {folder}_x{scale}",
        one_of("online", "disk"),
    ),
    "DATASETS.CHECK_FILES": Key(False, "decode every image before anything runs"),
    "DATASETS.ON_BAD_FILE": Key(
        "error", "what DATASETS.CHECK_FILES does with an undecodable image", one_of("error", "skip")
    ),
    "DATALOADER.NUM_WORKERS": Key(4, "processes that decode images; 0 = the main process", at_least(0)),
    "DATALOADER.NUM_INSTANCE": Key(4, "images of one identity in a batch (K)", at_least(2)),
    "DATALOADER.USE_RESAMPLING": Key(
        True,
        "repeat images of identities with fewer than K; False: each once, smaller batches (CTL's default)",
    ),
    "SOLVER.IMS_PER_BATCH": Key(
        64, "images in a batch of one process (P x K); a multiple of DATALOADER.NUM_INSTANCE", at_least(4)
    ),
    "SOLVER.MAX_EPOCHS": Key(
        120,
        "epochs; each shows every identity, and every image unless one person dominates",
        at_least(1),
    ),
    "SOLVER.OPTIMIZER_NAME": Key("Adam", "optimizer", one_of("Adam", "AdamW", "SGD", "Adagrad")),
    "SOLVER.BASE_LR": Key(3.5e-4, "learning rate after the warm-up", above(0)),
    "SOLVER.WEIGHT_DECAY": Key(5e-4, "weight decay", at_least(0)),
    "SOLVER.MOMENTUM": Key(0.9, "momentum (SGD only)", between(0, 1)),
    "SOLVER.LR_SCHEDULER_NAME": Key(
        "multistep_lr", "how the rate falls after the warm-up", one_of("multistep_lr", "cosine_annealing")
    ),
    "SOLVER.LR_STEPS": Key([40, 70], "epochs at which multistep_lr multiplies the rate by GAMMA", rising(1)),
    "SOLVER.GAMMA": Key(0.1, "factor of multistep_lr", between(0, 1)),
    "SOLVER.MIN_LR": Key(7.7e-7, "rate at which cosine_annealing ends", at_least(0)),
    "SOLVER.WARMUP_EPOCHS": Key(10, "epochs of linear warm-up, step by step; 0 = none", at_least(0)),
    "SOLVER.WARMUP_FACTOR": Key(0.01, "the rate starts at this share of BASE_LR", between(0, 1)),
    "SOLVER.QUERY_XENT_WEIGHT": Key(1.0, "weight of the label-smoothed cross entropy; 0 = off", at_least(0)),
    "SOLVER.LABEL_SMOOTHING": Key(0.1, "share of the target spread over all identities", between(0, 0.99)),
    "SOLVER.QUERY_CONTRASTIVE_WEIGHT": Key(1.0, "weight of the triplet loss; 0 = off", at_least(0)),
    "SOLVER.CENTROID_CONTRASTIVE_WEIGHT": Key(1.0, "weight of the centroid triplet; 0 = off", at_least(0)),
    "SOLVER.OCTUPLET_WEIGHT": Key(1.0, "weight of the octuplet loss (octuplet fine-tuning)", above(0)),
    "SOLVER.OCTUPLET_MARGIN": Key(25.0, "margin of the octuplet loss, in units of its distance", at_least(0)),
    "SOLVER.OCTUPLET_FEATURE": Key(
        "bn",
        "what the octuplet loss compares: bn = after the BNNeck, where distances are of the margin's size; raw = "
        "before it, as the original, where they may be far smaller",
        one_of("bn", "raw"),
    ),
    "SOLVER.OCTUPLET_DISTANCE": Key(
        "euclidean", "distance in the octuplet loss", one_of("euclidean", "sqeuclidean", "cosine")
    ),
    "SOLVER.OCTUPLET_TERMS": Key(
        ["hh", "hl", "lh", "ll"],
        "its triplets: anchor and others high or low",
        some_of("hh", "hl", "lh", "ll"),
    ),
    "SOLVER.MARGIN": Key(0.3, "margin of the triplet losses, in units of their distance", at_least(0)),
    "SOLVER.DISTANCE_FUNC": Key(
        "euclidean", "distance in the triplet losses", one_of("euclidean", "sqeuclidean", "cosine")
    ),
    "SOLVER.CENTER_LOSS_WEIGHT": Key(5e-4, "weight of the center loss; 0 = off", at_least(0)),
    "SOLVER.CENTER_LR": Key(0.5, "rate of the SGD that moves the centers", above(0)),
    "SOLVER.GRADIENT_CLIP_VAL": Key(0.0, "largest norm of the gradient; 0 = no clipping", at_least(0)),
    "SOLVER.EVAL_PERIOD": Key(
        10,
        "epochs between validations: 10 validates after epochs 9, 19, ..., counted from 0, and always after the last",
        at_least(1),
    ),
    "SOLVER.CHECKPOINT_PERIOD": Key(
        5,
        "epochs between kept checkpoints: 5 keeps 5.pth, 10.pth, ... of epochs 5, 10, ... from 0 on, and the last",
        at_least(1),
    ),
    "SOLVER.LOG_PERIOD": Key(10, "steps between logged training values", at_least(1)),
    "TEST.IMS_PER_BATCH": Key(128, "images in a batch of validation and test", at_least(1)),
    "TEST.PROTOCOLS": Key(
        ["instance"],
        "what is measured: instance retrieval, retrieval against identity centroids, or that as published in "
        "2021 (wrong camera index included, for comparison with published tables only)",
        some_of("instance", "centroid", "centroid_ctl2021"),
    ),
    "TEST.RERANK": Key(False, "one more row: instance retrieval with k-reciprocal re-ranking"),
    "TEST.RERANK_K1": Key(20, "neighbours in which re-ranked images must find each other", at_least(1)),
    "TEST.RERANK_K2": Key(6, "images averaged in the re-ranking's local expansion; 1 = none", at_least(1)),
    "TEST.RERANK_LAMBDA": Key(0.3, "weight of the original distance in the re-ranking", between(0, 1)),
    "TEST.QUERY_EXPANSION": Key(0, "gallery images that join each query (one more row); 0 = none", at_least(0)),
    "TEST.QUERY_EXPANSION_ALPHA": Key(3.0, "exponent of their weight; 0 weighs all alike", at_least(0)),
    "TEST.FPR": Key(1e-3, "false positive rate for which the threshold is printed", between(1e-9, 0.5)),
    "TEST.VISUALIZE": Key(False, "write report.html: ranked lists, CMC and ROC plots (yes or no)"),
    "TEST.VISUALIZE_TOPK": Key(10, "gallery images in a ranked list", at_least(1)),
    "TEST.VISUALIZE_MAX_NUMBER": Key(30, "ranked lists: a third each worst, median and best", at_least(1)),
    "TEST.SCALES": Key([], "scales that are tested, e.g. [1, 2, 4]; [] = INPUT.SCALE", numbers(None, 1)),
    "TEST.SCALE_PAIRS": Key(
        "both",
        "(query, gallery) scales: both alike; query: low queries, full gallery; gallery: the reverse; all",
        one_of("both", "query", "gallery", "all"),
    ),
    "TEST.CAMERA_RULE": Key(True, "ignore gallery images of the query's own identity and camera"),
    "TRAINER.ACCELERATOR": Key("auto", "auto: CUDA where it is, else the CPU", one_of("auto", "cpu", "cuda")),
    "TRAINER.DEVICES": Key(1, "processes, one per GPU; above 1 trains with DDP", at_least(1)),
    "TRAINER.PRECISION": Key(
        "32-true",
        "arithmetic of the network in training and validation; test.py computes in 32-true unless told otherwise",
        one_of("32-true", "bf16-mixed"),
    ),
    "REPRODUCIBLE": Key(
        False,
        "only deterministic algorithms on CUDA; slower (the CPU always is)",
    ),
    "REPRODUCIBLE_SEED": Key(0, "seed of everything random", between(0, 2**32 - 1)),
    "LOGS_DIR": Key("logs", "folder of the runs: checkpoints, config.yml, metrics.csv"),
    "RUNS_DIR": Key("runs", "folder of the TensorBoard logs"),
    "OUTPUT_DIR": Key("output_dir", "folder of the results of test and inference"),
}
