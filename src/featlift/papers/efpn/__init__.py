"""EFPN (Deng et al., IEEE Transactions on Multimedia 2021): an extended pyramid level for small objects, distilled from 2x images.

M is the base detector; F is its extractor with the extension, which computes p3x and p2x; T is M with the extended level and a second box
head for small RoIs. Phase 1 trains M; phase 2 distills F's pyramid of the 2x image into the extension (Sec. III-C), with everything else
frozen; phase 3 trains the new head on p2x with online hard example mining (Sec. IV-A).

The paper says little about phases 2 and 3; :class:`Settings` marks the choices it leaves open. Where the authors' anonymous code release
differs, :meth:`Settings.official` follows it; `docs/papers/efpn.md` lists the differences.
"""

from featlift.papers.efpn.settings import Settings
from featlift.papers.efpn.training import train

__all__ = ["Settings", "train"]
