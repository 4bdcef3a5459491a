"""Part of other configs: optimiser, loops, hooks."""

custom_imports = {"imports": ["fgclip2_mmdet"], "allow_failed_imports": False}
default_scope = "mmdet"

optim_wrapper = {
    "type": "OptimWrapper",
    "optimizer": {"type": "AdamW", "lr": 2e-4, "weight_decay": 0.05},
    "clip_grad": {"max_norm": 10, "norm_type": 2},
    "paramwise_cfg": {"norm_decay_mult": 0.0, "bias_decay_mult": 0.0},
}
val_cfg = {"type": "ValLoop"}
test_cfg = {"type": "TestLoop"}

default_hooks = {
    "timer": {"type": "IterTimerHook"},
    "logger": {"type": "LoggerHook", "interval": 20},
    "param_scheduler": {"type": "ParamSchedulerHook"},
    "checkpoint": {"type": "CheckpointHook", "interval": 1, "max_keep_ckpts": 2},
    "sampler_seed": {"type": "DistSamplerSeedHook"},
}
custom_hooks = [{"type": "EpochSeedHook"}]
env_cfg = {"cudnn_benchmark": False, "mp_cfg": {"mp_start_method": "fork", "opencv_num_threads": 0}}
vis_backends = [{"type": "LocalVisBackend"}]
visualizer = {"type": "DetLocalVisualizer", "vis_backends": vis_backends, "name": "visualizer"}
log_processor = {"type": "LogProcessor", "window_size": 20, "by_epoch": True}
log_level = "ERROR"
load_from = None
resume = False
