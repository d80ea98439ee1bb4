"""Pictures as people have them: folders, lists and videos, decoded, fitted to a size, and stored as 8-bit pixels.

In: where the pictures are, and how they are prepared: by options, a preset, or the metadata of an export.
Out: an array of pixels, what was skipped, and how pixels become the values of an input.
May import: support and below.
"""

from edgeprune.images.export_metadata import METADATA_KEY, exported_preprocessing, metadata_text
from edgeprune.images.find_pictures import Picture, find_pictures, is_picture_source
from edgeprune.images.picture_store import Pixels, decode_all
from edgeprune.images.preprocessing import PRESETS, Preprocessing, parse_fit
