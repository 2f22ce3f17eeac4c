"""YOLOv3's target assignment and losses as a loop over images, boxes and slots, written from the paper."""

import math

from lit_modules.models.detection import YOLOOutputs


def iou(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    overlap = max(width, 0) * max(height, 0)
    return overlap / (area(first) + area(second) - overlap)


def share_inside(first, second):
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(width, 0) * max(height, 0) / area(first)


def area(box):
    return (box[2] - box[0]) * (box[3] - box[1])


def sigmoid(value):
    return 1 / (1 + math.exp(-value))


def bce(value, wanted):
    return -(wanted * math.log(sigmoid(value)) + (1 - wanted) * math.log(1 - sigmoid(value)))


CENTERS = {
    "bce": bce,
    "l1": lambda value, wanted: abs(sigmoid(value) - wanted),
    "squared": lambda value, wanted: (sigmoid(value) - wanted) ** 2 / 2,
}
SIZES = {
    "l1": lambda value, wanted: abs(value - wanted),
    "squared": lambda value, wanted: (value - wanted) ** 2 / 2,
}


def find_slot(box, grid):
    """Walk through all slots in their order, and take the one of the box's cell whose anchor fits best."""
    width, height = box[2] - box[0], box[3] - box[1]
    centre = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    best, best_slot = -1.0, -1
    for slot in range(len(grid.cells)):
        stride = float(grid.strides[slot])
        last = [side for shape, s in zip(grid.shapes, grid.scale_strides, strict=True) if s == stride for side in shape]
        cell = [min(int(centre[0] // stride), last[1] - 1), min(int(centre[1] // stride), last[0] - 1)]
        if grid.cells[slot].tolist() != cell:
            continue
        anchor = grid.anchors[slot].tolist()
        fit = iou(
            (-width / 2, -height / 2, width / 2, height / 2),
            (-anchor[0] / 2, -anchor[1] / 2, anchor[0] / 2, anchor[1] / 2),
        )
        if fit > best:
            best, best_slot = fit, slot
    return best_slot


def losses(outputs: YOLOOutputs, targets, ignore_iou, label_smoothing, center, size):
    raw, grid = outputs
    classes = raw.shape[-1] - 5
    delta = min(1 / classes, 1 / 40) if label_smoothing else 0
    image_area = grid.shapes[0][0] * grid.shapes[0][1] * grid.scale_strides[0] ** 2
    parts = {"objectness": 0.0, "class": 0.0, "center": 0.0, "size": 0.0}
    for image in range(len(raw)):
        truths, crowds, owners = [], [], {}
        for index, label in enumerate(targets["labels"][image].tolist()):
            box = targets["boxes"][image, index].tolist()
            if label < 0 or box[2] <= box[0] or box[3] <= box[1]:
                continue
            if "crowd" in targets and bool(targets["crowd"][image, index]):
                crowds.append(box)
                continue
            truths.append(box)
            weight = float(targets["weights"][image, index]) if "weights" in targets else 1.0
            owners[find_slot(box, grid)] = (box, label, weight)  # the last box has the slot
        decoded = grid.decode(raw[image]).tolist()
        for slot, values in enumerate(raw[image].tolist()):
            if slot not in owners:
                overlaps = [iou(decoded[slot], box) for box in truths]
                overlaps += [share_inside(decoded[slot], box) for box in crowds]
                if max(overlaps, default=0) <= ignore_iou:
                    parts["objectness"] += bce(values[4], 0)
                continue
            box, label, weight = owners[slot]
            parts["objectness"] += weight * bce(values[4], 1)
            for index in range(classes):
                parts["class"] += weight * bce(values[5 + index], 1 - delta if index == label else delta)
            scale = 2 - area(box) / image_area
            for axis in (0, 1):
                place = (box[axis] + box[axis + 2]) / 2 / float(grid.strides[slot]) - float(grid.cells[slot, axis])
                parts["center"] += weight * scale * CENTERS[center](values[axis], min(max(place, 0), 1))
                wanted = math.log((box[axis + 2] - box[axis]) / float(grid.anchors[slot, axis]))
                parts["size"] += weight * scale * SIZES[size](values[2 + axis], wanted)
    return {name: part / len(raw) for name, part in parts.items()}
