"""The works that a methods text cites, each once, as a line of text and as a BibTeX entry."""

from __future__ import annotations

from dataclasses import dataclass

from mrharmony.core.version import __version__


@dataclass(frozen=True)
class Reference:
    """A work that is cited.

    Parameters
    ----------
    key, kind
        Of its BibTeX entry.
    short
        As text cites it, without parentheses.
    fields
        Of the BibTeX entry; `author` has `and` between names.
    """

    key: str
    kind: str
    short: str
    fields: dict[str, str]

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        lines = "".join(f"  {name} = {{{text}}},\n" for name, text in self.fields.items())
        return f"@{self.kind}{{{self.key},\n{lines}}}\n"

    def text(self) -> str:
        """Return the reference as a line of text."""
        said = self.fields
        names = said["author"].strip("{}").replace(" and others", " et al").replace(" and ", "; ").rstrip(".")
        place = said.get("journal") or said.get("booktitle") or said.get("institution") or ""
        where = ":".join(filter(None, [said.get("volume"), said.get("pages")]))
        tail = ", ".join(filter(None, [" ".join(filter(None, [place, where])), said.get("year")]))
        plain = said["title"].replace("{", "").replace("}", "")
        return f"{names}. {plain}.{f' {tail}.' if tail else ''}"


def _article(key: str, short: str, author: str, title: str, where: str, year: str) -> Reference:
    """Return an article; `where` is journal, volume and first page, parted by `|`."""
    journal, volume, *pages = where.split("|")
    fields = {"author": author, "title": title, "journal": journal, "volume": volume}
    return Reference(key, "article", short, fields | ({"pages": pages[0]} if pages else {}) | {"year": year})


def _talk(key: str, short: str, author: str, title: str, where: str, year: str) -> Reference:
    fields = {"author": author, "title": title, "booktitle": where, "year": year}
    return Reference(key, "inproceedings", short, fields)


MRHARMONY = Reference(
    "mrharmony",
    "misc",
    f"mrharmony {__version__}",
    {"author": "{The mrharmony developers}", "title": f"{{mrharmony}} {__version__}"},
)
IKEGAMI = Reference(
    "ikegami_domain_harmonization",
    "techreport",
    "Ikegami et al.",
    {
        "author": "Ikegami, Sora and Nishimaki, Kei and Tobari, Shuya and Iyatomi, Hitoshi",
        "title": "Evaluation of domain harmonization in brain {MR} images using a latent diffusion model",
        "institution": "Hosei University",
    },
)
DEEPBET = _article(
    "fisch2024deepbet",
    "Fisch et al. 2024",
    "Fisch, Lukas and others",
    "deepbet: Fast brain extraction of T1-weighted {MRI} using Convolutional Neural Networks",
    "Computers in Biology and Medicine|179|108845",
    "2024",
)
ICBM152 = _article(
    "fonov2011icbm152",
    "Fonov et al. 2011",
    "Fonov, Vladimir and others",
    "Unbiased average age-appropriate atlases for pediatric studies",
    "NeuroImage|54|313",
    "2011",
)
SYNTHSR = _article(
    "iglesias2021synthsr",
    "Iglesias et al. 2021",
    "Iglesias, Juan Eugenio and others",
    "Joint super-resolution and synthesis of 1 mm isotropic {MP-RAGE} volumes from clinical {MRI} exams with "
    "scans of different orientation, resolution and contrast",
    "NeuroImage|237|118206",
    "2021",
)
NYUL = _article(
    "nyul2000",
    "Nyúl et al. 2000",
    "Nyúl, László G. and Udupa, Jayaram K. and Zhang, Xuan",
    "New variants of a method of {MRI} scale standardization",
    "IEEE Transactions on Medical Imaging|19|143",
    "2000",
)
REINHOLD = _talk(
    "reinhold2019",
    "Reinhold et al. 2019",
    "Reinhold, Jacob C and Dewey, Blake E and Carass, Aaron and Prince, Jerry L",
    "Evaluating the impact of intensity normalization on {MR} image synthesis",
    "Medical Imaging 2019: Image Processing, SPIE 10949",
    "2019",
)
WHITESTRIPE = _article(
    "shinohara2014",
    "Shinohara et al. 2014",
    "Shinohara, Russell T. and others",
    "Statistical normalization techniques for magnetic resonance imaging",
    "NeuroImage: Clinical|6|9",
    "2014",
)
N4 = _article(
    "tustison2010n4",
    "Tustison et al. 2010",
    "Tustison, Nicholas J. and others",
    "{N4ITK}: Improved {N3} bias correction",
    "IEEE Transactions on Medical Imaging|29|1310",
    "2010",
)
SPECTRUM = _talk(
    "yang2020fda",
    "Yang and Soatto 2020",
    "Yang, Yanchao and Soatto, Stefano",
    "{FDA}: Fourier domain adaptation for semantic segmentation",
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "2020",
)
COMBAT = _article(
    "johnson2007combat",
    "Johnson et al. 2007",
    "Johnson, W. Evan and Li, Cheng and Rabinovic, Ariel",
    "Adjusting batch effects in microarray expression data using empirical {Bayes} methods",
    "Biostatistics|8|118",
    "2007",
)
COMBAT_OF_IMAGES = _article(
    "fortin2017combat",
    "Fortin et al. 2017",
    "Fortin, Jean-Philippe and others",
    "Harmonization of multi-site diffusion tensor imaging data",
    "NeuroImage|161|149",
    "2017",
)
CYCLEGAN = _article(
    "arai2021",
    "Arai et al. 2021",
    "Arai, H. and Onga, Y. and Ikuta, K. and Chayama, Y. and Iyatomi, H. and Oishi, K.",
    "Disease-oriented image embedding with pseudo-scanner standardization for content-based image retrieval "
    "on {3D} brain {MRI}",
    "IEEE Access|9|165326",
    "2021",
)
LATENT_DIFFUSION = _talk(
    "rombach2022ldm",
    "Rombach et al. 2022",
    "Rombach, R. and Blattmann, A. and Lorenz, D. and Esser, P. and Ommer, B.",
    "High-resolution image synthesis with latent diffusion models",
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "2022",
)
DREAMBOOTH = _talk(
    "ruiz2023dreambooth",
    "Ruiz et al. 2023",
    "Ruiz, N. and Li, Y. and Jampani, V. and Pritch, Y. and Rubinstein, M. and Aberman, K.",
    "{DreamBooth}: Fine tuning text-to-image diffusion models for subject-driven generation",
    "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)",
    "2023",
)

OF_METHODS = {  # beside those that every run cites
    "zscore": (REINHOLD,),
    "whitestripe": (WHITESTRIPE, REINHOLD),
    "fcm": (REINHOLD,),
    "kde": (REINHOLD,),
    "lsq": (REINHOLD,),
    "nyul": (NYUL, REINHOLD),
    "histogram": (NYUL,),
    "n4-histogram": (N4, NYUL),
    "population": (NYUL,),
    "spectrum": (SPECTRUM,),
    "combat": (COMBAT, COMBAT_OF_IMAGES),
    "cyclegan": (CYCLEGAN,),
    "img2img": (LATENT_DIFFUSION, DREAMBOOTH),
}
