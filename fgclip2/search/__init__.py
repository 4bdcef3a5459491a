"""Search in a collection of pictures: by what small things in them look like, in English and Chinese."""
