"""The arguments of what the shipped files name, where importing it would take seconds.

Lightning, and everything built on it, takes longer to import than a misspelt key should take to be
named. A test compares this table with the real signatures; what is not in it is imported.
"""

# Target to its arguments, separated by spaces.
KNOWN_ARGUMENTS = {
    "lightning.pytorch.Trainer": (
        "accelerator strategy devices num_nodes precision logger callbacks fast_dev_run "
        "max_epochs min_epochs max_steps min_steps max_time limit_train_batches "
        "limit_val_batches limit_test_batches limit_predict_batches overfit_batches "
        "val_check_interval check_val_every_n_epoch num_sanity_val_steps log_every_n_steps "
        "enable_checkpointing enable_progress_bar enable_model_summary accumulate_grad_batches "
        "gradient_clip_val gradient_clip_algorithm deterministic benchmark inference_mode "
        "use_distributed_sampler profiler detect_anomaly barebones plugins sync_batchnorm "
        "reload_dataloaders_every_n_epochs default_root_dir enable_autolog_hparams "
        "model_registry"
    ),
    "lnrnn.data.adding": (
        "num_features num_tokens num_classes length num_train num_validation num_test data_seed "
        "batch_size num_workers seed"
    ),
    "lnrnn.data.copying": (
        "num_features num_tokens num_classes length num_train num_validation num_test data_seed "
        "batch_size num_workers seed"
    ),
    "lnrnn.data.digits": (
        "num_features num_tokens num_classes length order validation test split_seed batch_size "
        "num_workers seed"
    ),
    "lnrnn.data.hub_table": (
        "repository subset revision num_classes input_column target_column train_split "
        "validation_split test_split validation split_seed num_features num_tokens length "
        "max_length batch_size num_workers seed"
    ),
    "lnrnn.data.hub_text": (
        "repository subset revision text_column train_split validation_split test_split "
        "num_features num_tokens num_classes length batch_size window num_workers"
    ),
    "lnrnn.data.japanese_vowels": (
        "num_features num_tokens num_classes length validation test split_seed standardize "
        "batch_size num_workers seed"
    ),
    "lnrnn.data.mnist": (
        "file num_features num_tokens num_classes length order validation split_seed batch_size "
        "num_workers seed"
    ),
    "lnrnn.data.mnist1d": (
        "num_features num_tokens num_classes length validation split_seed data_seed batch_size "
        "num_workers seed"
    ),
    "lnrnn.data.shakespeare": (
        "num_features num_tokens num_classes length validation_plays test_plays batch_size "
        "window num_workers"
    ),
    "lnrnn.data.sunspots": (
        "num_features num_tokens num_classes window horizon length validation test standardize "
        "batch_size num_workers seed"
    ),
    "lnrnn.data.table_files": (
        "files num_classes task validation_files test_files validation test split_by split_seed "
        "input_column input_columns target_column group_by order_by per_step window horizon stride "
        "missing num_features num_tokens length max_length standardize separator encoding "
        "batch_size num_workers seed"
    ),
    "lnrnn.data.text_files": (
        "files validation_files test_files validation test num_features num_tokens num_classes "
        "length encoding batch_size window num_workers"
    ),
    "lnrnn.models.RecurrentEncoder": (
        "cell num_features num_tokens embedding_size projection hidden_size num_layers norm eps "
        "dropout bidirectional fused zoneout zoneout_c recurrent_dropout variational_dropout "
        "weight_drop recurrent_init forget_bias update_bias chrono"
    ),
}
