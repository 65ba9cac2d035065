r"""Appendix F's role: MeGU with other label sources and other uses of the noise."""

from fig9_sensitivity import main_of

if __name__ == "__main__":
    main_of(["A2", "A12", "noise", "A7", "A8", "A9"], "fig10_ablation")
