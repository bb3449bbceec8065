"""Pixels and models: the only owner of torch, torchvision, open_clip and Pillow."""

import warnings

# Arrays that view Arrow buffers are read-only. torch warns of that once per process; nothing here writes to them.
warnings.filterwarnings("ignore", message="The given (NumPy array|buffer) is not writable", category=UserWarning)
# Pillow's own opinion of large images: `pixels.decoding.decode` holds them against the recipe's limit.
warnings.filterwarnings("ignore", message="Image size .* exceeds limit")
# Pillow's advice to authors; which pixels a transparent palette gives is said in `pixels/decoding.py`.
warnings.filterwarnings("ignore", message="Palette images with Transparency", category=UserWarning)
