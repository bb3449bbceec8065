"""Words that name a picture, out of the captions of a run: no list of classes is needed (CaSED: Conti et al., NeurIPS 2023)."""
