"""Settings of a training run (`prv2 train --config FILE`): validated before anything runs. No torch.

stage            trains                      on
coarse           a coarse network            whole photographs
noisy-pretrain   a bundle's refiner          whole photographs, noise for guidance
refine           a bundle, or a refiner      random tiles
                 behind any coarse map       procedural scenes and spoilt coarse maps
transfer         a bundle                    random tiles with sparse truth and pseudo-labels

run.py           TrainConfig: all settings of a run, and what follows from them
scenes.py  mixture.py  samples.py  losses.py  optimiser.py  evaluation.py     its groups
checks.py        which settings fit together
load.py          from a YAML file and key=value
"""
