"""The methods that Table 1 of Lee et al. 2019 compares SNIP with.

All end in ordinary masks. LWC and OBD are callbacks for a model that is being
trained, L-OBS is a function for one that was, and the others are blocks around
`fit`.
"""

from snip_tf.methods.dns import DNS
from snip_tf.methods.l_obs import prune_by_l_obs
from snip_tf.methods.lc import LC
from snip_tf.methods.lwc import LWC
from snip_tf.methods.obd import OBD
from snip_tf.methods.svd import SVD
from snip_tf.methods.sws import SWS

__all__ = ["DNS", "LC", "LWC", "OBD", "SVD", "SWS", "prune_by_l_obs"]
