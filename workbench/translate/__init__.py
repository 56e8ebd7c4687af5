"""From cell line to patient: does what was learnt on lines hold in tumours, and may anyone read it?

    domains   lines and tumours over the genes both name        adapt     what is done against the shift (features only)
    shift     is the shift gone?                                biology   is the biology still there?
    transfer  ridges on lines applied to tumours, judged        gate      shut until chance is beaten on other patients
    patients  what the patients' own data say (naive)           xenografts, lines_to_mice   tumours in mice

Lines and tumours differ in platform, in stroma and immune cells, and in what growing on plastic selects. So the default
answer about a patient is none, with the reason.
"""
