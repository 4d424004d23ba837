"""The paper's figures: precision, recall and F1 in percent, by table, data and row."""

Figures = tuple[float, float, float]

COCO, POSETRACK = "MS-COCO validation", "PoseTrack18 validation"

TABLE_1: dict[str, dict[str, Figures]] = {
    COCO: {"CC-Loss": (80.7, 64.6, 71.8), "MSE Loss": (79.1, 67.4, 72.8), "Focal Loss": (77.8, 70.8, 74.1)},
    POSETRACK: {"CC-Loss": (48.0, 26.7, 34.3), "MSE Loss": (46.8, 27.5, 34.6), "Focal Loss": (44.3, 32.1, 37.2)},
}
TABLE_2: dict[str, dict[str, Figures]] = {
    COCO: {
        "Focal Loss pre-trained": (88.1, 74.3, 80.7),
        "Focal Loss fine-tuned 30 epochs": (88.5, 65.1, 75.0),
    },
    POSETRACK: {
        "Focal Loss pre-trained": (35.2, 16.1, 22.1),
        "Focal Loss fine-tuned 30 epochs": (29.0, 31.2, 30.1),
    },
}
TABLE_3: dict[str, dict[str, Figures]] = {
    POSETRACK: {
        "Configuration 1": (82.6, 6.1, 11.4),
        "Configuration 2": (57.4, 25.9, 35.7),
        "Configuration 3": (67.3, 25.7, 37.2),
        "Configuration 4": (46.9, 28.2, 35.2),
        "Configuration 5": (52.1, 31.0, 38.9),
        "Configuration 6": (48.7, 27.3, 35.0),
        "Configuration 1, fine-tuned": (81.3, 17.9, 29.4),
        "Configuration 2, fine-tuned": (73.1, 31.8, 44.4),
        "Configuration 3, fine-tuned": (70.9, 35.0, 46.8),
        "Configuration 4, fine-tuned": (62.3, 36.4, 46.0),
        "Configuration 5, fine-tuned": (69.8, 36.2, 47.6),
        "Configuration 6, fine-tuned": (69.8, 32.2, 44.0),
    },
}
TABLES = {"1": TABLE_1, "2": TABLE_2, "3": TABLE_3}
