"""The classes and functions that a configuration may name, every one by its name.

A package as a whole is too wide: torchmetrics has metrics that load a model with its own code from
a folder they are given, Lightning has callbacks and profilers that write where they are told. What
is here computes, describes data or trains, and whatever its arguments are, it opens no file and
imports nothing by name; but for data's own readers, the trainer, and loggers, whose arguments
:mod:`lnrnn.config.lightning_nodes` checks.
"""

_NAMES = {  # the module, spelled as people spell it, to its names
    "lnrnn": "CellNorm GRU GRUCell LSTM LSTMCell RNN RNNCell",
    "lnrnn.nn": "CellNorm GRU GRUCell LSTM LSTMCell RNN RNNCell TransformerLayer",
    "lnrnn.models": (
        "ClassificationHead RecurrentEncoder RegressionHead SequenceModel TokenHead "
        "TransformerEncoder"
    ),
    "lnrnn.data": (
        "adding copying digits hub_table hub_text japanese_vowels mnist mnist1d shakespeare "
        "sunspots table_files text_files"
    ),
    "torch.optim": (
        "ASGD Adadelta Adafactor Adagrad Adam AdamW Adamax LBFGS Muon NAdam RAdam RMSprop Rprop "
        "SGD SparseAdam"
    ),
    "torch.optim.lr_scheduler": (
        "ConstantLR CosineAnnealingLR CosineAnnealingWarmRestarts CyclicLR ExponentialLR LinearLR "
        "MultiStepLR OneCycleLR PolynomialLR ReduceLROnPlateau StepLR"
    ),
    "torch.nn": (
        # losses
        "BCELoss BCEWithLogitsLoss CTCLoss CosineEmbeddingLoss CrossEntropyLoss GaussianNLLLoss "
        "HingeEmbeddingLoss HuberLoss KLDivLoss L1Loss MSELoss MarginRankingLoss "
        "MultiLabelMarginLoss MultiLabelSoftMarginLoss MultiMarginLoss NLLLoss PoissonNLLLoss "
        "SmoothL1Loss SoftMarginLoss TripletMarginLoss "
        # activations
        "CELU ELU GELU GLU Hardshrink Hardsigmoid Hardswish Hardtanh LeakyReLU LogSigmoid "
        "LogSoftmax Mish PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmin Softplus "
        "Softshrink Softsign Tanh Tanhshrink Threshold "
        # layers
        "AdaptiveAvgPool1d AdaptiveMaxPool1d AlphaDropout AvgPool1d BatchNorm1d Bilinear Conv1d "
        "ConvTranspose1d Dropout Dropout1d Embedding EmbeddingBag Flatten GRU GRUCell GroupNorm "
        "Identity InstanceNorm1d LSTM LSTMCell LayerNorm Linear LocalResponseNorm MaxPool1d "
        "MultiheadAttention RMSNorm RNN RNNCell Sequential TransformerDecoderLayer "
        "TransformerEncoder TransformerEncoderLayer Unflatten"
    ),
    "torchmetrics": (
        # of classes
        "AUROC Accuracy AveragePrecision CalibrationError CohenKappa ConfusionMatrix ExactMatch "
        "F1Score FBetaScore HammingDistance HingeLoss JaccardIndex MatthewsCorrCoef Precision "
        "PrecisionRecallCurve ROC Recall Specificity StatScores "
        # of numbers
        "ConcordanceCorrCoef CosineSimilarity ExplainedVariance KLDivergence KendallRankCorrCoef "
        "LogCoshError MeanAbsoluteError MeanAbsolutePercentageError MeanSquaredError "
        "MeanSquaredLogError MinkowskiDistance NormalizedRootMeanSquaredError PearsonCorrCoef "
        "R2Score RelativeSquaredError SpearmanCorrCoef SymmetricMeanAbsolutePercentageError "
        "TweedieDevianceScore WeightedMeanAbsolutePercentageError "
        # of the next token, and what adds up
        "CatMetric MaxMetric MeanMetric MinMetric Perplexity SumMetric"
    ),
    "lightning.pytorch": "Trainer",
    "lightning.pytorch.loggers": "CSVLogger MLFlowLogger TensorBoardLogger WandbLogger",
}

ALLOWED = frozenset(
    f"{module}.{name}" for module, names in _NAMES.items() for name in names.split()
)
