# rake-nltk 1.0

from rake_nltk.rake import Metric as Metric
from rake_nltk.rake import Rake as Rake
