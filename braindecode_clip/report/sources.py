"""The works that the methods text cites, and their numbering."""

from __future__ import annotations

SOURCES = {
    "nilearn": "Abraham A et al. (2014). Machine learning for neuroimaging with scikit-learn. "
    "Frontiers in Neuroinformatics 8:14. doi:10.3389/fninf.2014.00014",
    "nsd": "Allen EJ et al. (2022). A massive 7T fMRI dataset to bridge cognitive neuroscience "
    "and artificial intelligence. Nature Neuroscience 25:116–126. doi:10.1038/s41593-021-00962-x",
    "openclip": "Cherti M et al. (2023). Reproducible scaling laws for contrastive "
    "language-image learning. CVPR 2023. arXiv:2212.07143",
    "bootstrap": "Efron B, Tibshirani RJ (1993). An Introduction to the Bootstrap. Chapman & Hall.",
    "spm_hrf": "Friston KJ et al. (1998). Event-related fMRI: characterizing differential "
    "responses. NeuroImage 7(1):30–40. doi:10.1006/nimg.1997.0306",
    "glover": "Glover GH (1999). Deconvolution of impulse response in event-related BOLD fMRI. "
    "NeuroImage 9(4):416–429. doi:10.1006/nimg.1998.0419",
    "haufe": "Haufe S et al. (2014). On the interpretation of weight vectors of linear models in "
    "multivariate neuroimaging. NeuroImage 87:96–110. doi:10.1016/j.neuroimage.2013.10.067",
    "reduced_rank": "Mukherjee A, Zhu J (2011). Reduced rank ridge regression and its kernel "
    "extensions. Statistical Analysis and Data Mining 4(6):612–622. doi:10.1002/sam.10138",
    "banded": "Dupré la Tour T, Eickenberg M, Nunez-Elizalde AO, Gallant JL (2022). Feature-space "
    "selection with banded ridge regression. NeuroImage 264:119728. "
    "doi:10.1016/j.neuroimage.2022.119728",
    "ridge": "Hoerl AE, Kennard RW (1970). Ridge regression: biased estimation for nonorthogonal "
    "problems. Technometrics 12(1):55–67. doi:10.1080/00401706.1970.10488634",
    "kamitani": "Horikawa T, Kamitani Y (2017). Generic decoding of seen and imagined objects "
    "using hierarchical visual features. Nature Communications 8:15037. doi:10.1038/ncomms15037",
    "kay": "Kay KN, Naselaris T, Prenger RJ, Gallant JL (2008). Identifying natural images from "
    "human brain activity. Nature 452:352–355. doi:10.1038/nature06713",
    "adamw": "Loshchilov I, Hutter F (2019). Decoupled weight decay regularization. ICLR 2019. "
    "arXiv:1711.05101",
    "brainbits": "Mayo D et al. (2024). BrainBits: How much of the brain are generative "
    "reconstruction methods using? NeurIPS 2024. arXiv:2411.02783",
    "mindeye": "Scotti PS et al. (2023). Reconstructing the mind's eye: fMRI-to-image with "
    "contrastive learning and diffusion priors. NeurIPS 2023. arXiv:2305.18274",
    "snakemake": "Mölder F et al. (2021). Sustainable data analysis with Snakemake. "
    "F1000Research 10:33. doi:10.12688/f1000research.29032.2",
    "simpleitk": "Lowekamp BC, Chen DT, Ibáñez L, Blezek D (2013). The design of SimpleITK. "
    "Frontiers in Neuroinformatics 7:45. doi:10.3389/fninf.2013.00045",
    "glmdenoise": "Kay KN et al. (2013). GLMdenoise: a fast, automated technique for denoising "
    "task-based fMRI data. Frontiers in Neuroscience 7:247. doi:10.3389/fnins.2013.00247",
    "glmsingle": "Prince JS et al. (2022). Improving the accuracy of single-trial fMRI response "
    "estimates using GLMsingle. eLife 11:e77599. doi:10.7554/eLife.77599",
    "ar1": "Worsley KJ et al. (2002). A general statistical analysis for fMRI data. NeuroImage "
    "15(1):1–15. doi:10.1006/nimg.2001.0933",
    "lss": "Mumford JA, Turner BO, Ashby FG, Poldrack RA (2012). Deconvolving BOLD activation in "
    "event-related designs for multivoxel pattern classification analyses. NeuroImage "
    "59(3):2636–2643. doi:10.1016/j.neuroimage.2011.08.076",
    "permutation": "Phipson B, Smyth GK (2010). Permutation p-values should never be zero. "
    "Statistical Applications in Genetics and Molecular Biology 9(1):39. "
    "doi:10.2202/1544-6115.1585",
    "max_statistic": "Nichols TE, Holmes AP (2002). Nonparametric permutation tests for functional "
    "neuroimaging: a primer with examples. Human Brain Mapping 15(1):1–25. doi:10.1002/hbm.1058",
    "prevalence": "Ince RAA, Paton AT, Kay JW, Schyns PG (2021). Bayesian inference of population "
    "prevalence. eLife 10:e62461. doi:10.7554/eLife.62461",
    "bh": "Benjamini Y, Hochberg Y (1995). Controlling the false discovery rate: a practical and "
    "powerful approach to multiple testing. Journal of the Royal Statistical Society B "
    "57(1):289–300. doi:10.1111/j.2517-6161.1995.tb02031.x",
    "tost": "Schuirmann DJ (1987). A comparison of the two one-sided tests procedure and the power "
    "approach for assessing the equivalence of average bioavailability. Journal of "
    "Pharmacokinetics and Biopharmaceutics 15(6):657–680. doi:10.1007/BF01068419",
    "jzs": "Rouder JN, Speckman PL, Sun D, Morey RD, Iverson G (2009). Bayesian t tests for "
    "accepting and rejecting the null hypothesis. Psychonomic Bulletin & Review 16(2):225–237. "
    "doi:10.3758/PBR.16.2.225",
    "clip": "Radford A et al. (2021). Learning transferable visual models from natural language "
    "supervision. ICML 2021. arXiv:2103.00020",
    "lsa": "Rissman J, Gazzaley A, D'Esposito M (2004). Measuring functional connectivity during "
    "distinct stages of a cognitive task. NeuroImage 23(2):752–763. "
    "doi:10.1016/j.neuroimage.2004.06.035",
}


class Citations:
    """Numbers the sources in the order in which they are first cited."""

    def __init__(self) -> None:
        self._keys: list[str] = []

    def __call__(self, *keys: str) -> str:
        """Return ``[1]`` or ``[1, 3]`` for sources by their key."""
        for key in keys:
            if key not in self._keys:
                self._keys.append(key)
        return "[" + ", ".join(str(self._keys.index(key) + 1) for key in keys) + "]"

    @property
    def references(self) -> tuple[str, ...]:
        """The cited works in the order of their numbers."""
        return tuple(SOURCES[key] for key in self._keys)
