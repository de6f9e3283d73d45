"""What is done to the edges of a refined map, outside of the network.

by_bands          a filter over a map of any size, band by band
shock_filter      the ramps that are left at edges become steps
weighted_median   edges go where the photograph has them
"""
