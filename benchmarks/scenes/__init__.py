"""Scenes composed of real 2-D motion, with the errors that the network really makes: who gets whose keypoints?"""
