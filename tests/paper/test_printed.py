"""Compares study.paper.tables with a second transcription of every number that the paper prints."""

from __future__ import annotations

from study.paper.tables import TABLES

# Rows as the paper prints them; - is a cell that it leaves empty, K thousands.
PRINTED = {
    "T1": """
        score | 69.0 70.1 71.1 72.8 73.4 73.7 74.0 74.5
    """,
    "T2": """
        GCN | 70.1 71.1 72.8 73.4
        conv | 69.8 70.4 69.6 68.8
        GCN params | 260K 434K 608K 782K
        conv params | 387K 1075K 2107K 3484K
    """,
    "T3": """
        GCN | 70.1 71.1 72.8 73.4 73.7
        stack | 69.8 71.8 71.3 69.5 67.5
    """,
    "T4": """
        score | 71.3 70.4 68.8 72.8
        params | 75885K 28505K 4307K 608K
    """,
    "T5": """
        baseline | 71.3 93.9 69.0
        GCN | 71.5 95.0 74.5
        GCN+BR | 73.4 95.1 74.7
    """,
    "T6": """
        ImageNet cls err | 7.7 7.9
        seg, baseline (1x1 head) | 65.7 71.2
        seg, GCN + BR | 72.3 72.5
    """,
    "T7": """
        Stage-1 | 69.6 74.1 75.0
        Stage-2 | 72.4 77.6 78.6
        Stage-3 | 74.0 78.7 80.3
        Stage-3-MS | - - 80.4
        Stage-3-MS-CRF | - - 81.0
    """,
    "T8": """
        FCN-8s-heavy | 67.2
        TTI_zoomout_v2 | 69.6
        MSRA_BoxSup | 71.0
        DeepLab-MSc-CRF-LargeFOV | 71.6
        Oxford_TVG_CRF_RNN_COCO | 74.7
        CUHK_DPN_COCO | 77.5
        Oxford_TVG_HO_CRF | 77.9
        CASIA_IVA_OASeg | 78.3
        Adelaide_VeryDeep_FCN_VOC | 79.1
        LRR_4x_ResNet_COCO | 79.3
        Deeplabv2-CRF | 79.7
        CentraleSupelec Deep G-CRF | 80.2
        ours | 82.2
    """,
    "T9": """
        Stage-1 | 73.0
        Stage-2 | 76.9
        Stage-2-MS | 77.2
        Stage-2-MS-CRF | 77.4
    """,
    "T10": """
        FCN 8s | 65.3
        DPN | 59.1
        CRFasRNN | 62.5
        Scale invariant CNN + CRF | 66.3
        Dilation10 | 67.1
        DeepLabv2-CRF | 70.4
        Adelaide_context | 71.6
        LRR-4x | 71.8
        ours | 76.9
    """,
    "T11": """
        conv1 | 112 112
        res-2 | 56 56
        res-3 | 28 28
        res-4 | 14 14
        res-5 | 7 7
        head | 1 1
        MFlops (conv) | 3700 3700
        parameters | - -
    """,
}


def test_every_printed_number_is_in_its_cell() -> None:
    typed, kept = {}, {}
    for name, text in PRINTED.items():
        for line in text.strip().splitlines():
            row, _, numbers = line.strip().partition(" | ")
            for column, number in zip(TABLES[name].columns, numbers.split(), strict=True):
                if number != "-":
                    typed[name, row, column] = float(number.replace("K", "e3"))
    for name, table in TABLES.items():
        for cell in table.cells:
            if cell.paper is not None:
                percent = isinstance(cell.paper, float)  # scores and errors are fractions, the rest are counts
                kept[name, cell.row, cell.column] = round(cell.paper * 100, 6) if percent else float(cell.paper)
    assert kept == typed and len(typed) == 8 + 16 + 10 + 8 + 9 + 6 + 11 + 13 + 4 + 9 + 14
