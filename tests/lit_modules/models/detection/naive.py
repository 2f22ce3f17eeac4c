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


def overlap(kind, first, second):
    """IoU of two boxes and its successors, from the definitions of arXiv:1902.09630 and arXiv:1911.08287."""
    plain = iou(first, second)
    hull = [min(first[0], second[0]), min(first[1], second[1]), max(first[2], second[2]), max(first[3], second[3])]
    if kind == "iou":
        return plain
    if kind == "giou":
        union = (area(first) + area(second)) / (1 + plain)
        return plain - (area(hull) - union) / area(hull)
    centres = [((box[0] + box[2]) / 2, (box[1] + box[3]) / 2) for box in (first, second)]
    diagonal = (hull[2] - hull[0]) ** 2 + (hull[3] - hull[1]) ** 2
    distance = plain - math.dist(*centres) ** 2 / diagonal
    if kind == "diou":
        return distance
    angles = [math.atan((box[2] - box[0]) / (box[3] - box[1])) for box in (first, second)]
    difference = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    return distance - (difference**2 / (1 - plain + difference) if difference else 0)


def center_and_size(center, size):
    def count(values, variances, places, log_sizes, scale, predicted, box):
        return {
            "center": scale * sum(CENTERS[center](*pair) for pair in zip(values[:2], places, strict=True)),
            "size": scale * sum(SIZES[size](*pair) for pair in zip(values[2:], log_sizes, strict=True)),
        }

    return count


def overlap_loss(kind, weight):
    def count(values, variances, places, log_sizes, scale, predicted, box):
        return {"overlap": weight * (1 - overlap(kind, predicted, box))}

    return count


def gaussian(values, variances, places, log_sizes, scale, predicted, box):
    def surprise(mean, variance, value):
        variance = max(variance, 0.01)
        density = math.exp(-((value - mean) ** 2) / (2 * variance)) / math.sqrt(2 * math.pi * variance)
        return -math.log(density + 1e-9) * scale / 2

    means = [*map(sigmoid, values[:2]), *values[2:]]
    each = [surprise(*three) for three in zip(means, map(sigmoid, variances), [*places, *log_sizes], strict=True)]
    return {"center": each[0] + each[1], "size": each[2] + each[3]}


def losses(
    outputs: YOLOOutputs,
    targets,
    count_box=None,
    ignore_iou=0.7,
    label_smoothing=False,
    gamma=0.0,
    alpha=None,
    negatives_per_box=None,
):
    """The parts of the loss, the parts of ``count_box`` among them."""
    raw, grid, all_variances = outputs
    count_box = count_box or center_and_size("bce", "l1")
    classes = raw.shape[-1] - 5
    delta = min(1 / classes, 1 / 40) if label_smoothing else 0
    image_area = grid.shapes[0][0] * grid.shapes[0][1] * grid.scale_strides[0] ** 2
    parts, negatives, positives = {"objectness": 0.0, "class": 0.0}, [], 0

    def objectness(value, wanted):
        right = sigmoid(value) if wanted else 1 - sigmoid(value)
        share = 1 if alpha is None else alpha if wanted else 1 - alpha
        return share * (1 - right) ** gamma * -math.log(right)

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
                    negatives.append(objectness(values[4], False))
                continue
            box, label, weight = owners[slot]
            positives += 1
            parts["objectness"] += weight * objectness(values[4], True)
            for index in range(classes):
                parts["class"] += weight * bce(values[5 + index], 1 - delta if index == label else delta)
            places, log_sizes = [], []
            for axis in (0, 1):
                place = (box[axis] + box[axis + 2]) / 2 / float(grid.strides[slot]) - float(grid.cells[slot, axis])
                places.append(min(max(place, 0), 1))
                log_sizes.append(math.log((box[axis + 2] - box[axis]) / float(grid.anchors[slot, axis])))
            variances = None if all_variances is None else all_variances[image, slot].tolist()
            scale = 2 - area(box) / image_area
            for name, part in count_box(values[:4], variances, places, log_sizes, scale, decoded[slot], box).items():
                parts[name] = parts.get(name, 0.0) + weight * part
    if negatives_per_box is not None:
        negatives = sorted(negatives, reverse=True)[: math.ceil(negatives_per_box * max(positives, 1))]
    parts["objectness"] += sum(negatives)
    return {name: part / len(raw) for name, part in parts.items()}
