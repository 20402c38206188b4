"""What is seen of a training: TensorBoard, the journal, pictures, profiles, the watchdog."""
