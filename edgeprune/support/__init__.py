"""Helpers that know nothing of models: files, caches, progress, processor cores.

In: paths, dataclasses, callables.
Out: files and folders written atomically, JSON, cached values, progress lines, core counts.
May import: errors.
"""

from edgeprune.support import json_form
from edgeprune.support.atomic_output import (
    check_file,
    check_output,
    check_temporary_room,
    output_file,
    output_folder,
    write_text,
)
from edgeprune.support.blas_threads import shared_cores
from edgeprune.support.deferred_sympy import defer_sympy
from edgeprune.support.disk_cache import LatencyCache, cache_folder
from edgeprune.support.first_sentence import first_sentence
from edgeprune.support.moved_names import keep_moved_names
from edgeprune.support.nearest_names import nearest_names, or_nearest
from edgeprune.support.plural import plural
from edgeprune.support.prefetch import prefetch, run_in_parallel
from edgeprune.support.process_usage import TEMPORARY_FILES, peak_memory_bytes, processor_s, release_memory
from edgeprune.support.processor import available_cores, int8_weight_bits, kernel_features, this_cpu, vector_lanes
from edgeprune.support.progress import Progress, Step, TerminalProgress
from edgeprune.support.random_values import random_values
from edgeprune.support.step_times import StepTimes, usual_s
from edgeprune.support.user_function import describe_failure, is_function_spec, load_function
