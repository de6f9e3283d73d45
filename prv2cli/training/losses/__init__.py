"""Training losses as functions of tensors.

truth.py         silog  log_gradient_loss                     supervision in metres
differences.py   masked_l1  gradient_matching                 differences and their gradients, in metres
detail.py        ssi  ssigm                                   a pseudo-label's detail without its scale
ranking.py       edge_guided_ranking                          a pseudo-label's order of depths
residual.py      weighted_residual_loss  drift_loss  edge_loss     for this project's own refiner

Unless said otherwise maps are (B, 1, H, W) and depths metres; `valid` is a bool mask of the truth's shape. A
prediction of another size is resized to the truth's (bilinear, corners aligned). With at most one valid pixel a
loss is zero and so are its gradients. What lies outside `valid` never counts, not even as NaN.
"""
