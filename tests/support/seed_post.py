"""The commands of the post of 2015 that this project answers, and the folders that are served as ``/`` in it."""

SEED = {
    "the folder that nginx serves": (
        "simp_le -d example.com:/var/www/example.com/web -f key.pem -f cert.pem -f fullchain.pem",
        "/var/www/example.com/web",
    ),
    "the folder of the app": (
        "simp_le -d example.com:/var/www/sites/example_com/server -f key.pem -f cert.pem -f fullchain.pem",
        "/var/www/sites/example_com/server",
    ),
}
