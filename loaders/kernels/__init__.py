"""Compiled inner loops of the loaders: pure functions of arrays that release the GIL and keep no state.

`resample` crops, resizes, flips and normalises in one pass, with the weights of `taps` and the eight-float values of `vectors`; `colour`
and `warp` change what was resampled; `draws` turns random streams into parameters; `jpeg` reads what the header of a JPEG says.
"""
